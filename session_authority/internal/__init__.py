"""Contains the generated code of messages that are not a part of the public API."""
