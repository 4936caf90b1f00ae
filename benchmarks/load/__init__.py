"""Generates load: connections that cost little, closed and open loops, and checks of answers.

Trusts no server: every answer is checked, and a wrong answer ends the run.
"""
