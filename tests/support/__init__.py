"""What the tests of several rooms share: real servers to run against, and a clock that tests
move.
"""
