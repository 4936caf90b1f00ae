"""Generates load: connections that cost little, closed and open loops, and the checks of answers.

Refuses to trust a server: every answer is checked, and a wrong one ends the run.
"""
