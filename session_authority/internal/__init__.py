"""Contains the generated code of messages that only this service reads."""
