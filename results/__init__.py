"""Rows to means, tables and figures. Imports none of our code and never torch: old rows redraw without either."""
