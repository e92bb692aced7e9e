"""Figures as functions of their data: nothing global is touched and nothing is written."""
