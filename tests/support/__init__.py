"""What several rooms' tests share: real servers to run against, and a clock to turn."""
