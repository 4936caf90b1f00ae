"""Generated code of the messages that only this service reads."""
