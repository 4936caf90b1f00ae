from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class EventCursor(_message.Message):
    __slots__ = ("latest_ms", "age_ms", "entry_ages_ms", "entry_numbers", "memory_ms")
    LATEST_MS_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    ENTRY_AGES_MS_FIELD_NUMBER: _ClassVar[int]
    ENTRY_NUMBERS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MS_FIELD_NUMBER: _ClassVar[int]
    latest_ms: int
    age_ms: int
    entry_ages_ms: _containers.RepeatedScalarFieldContainer[int]
    entry_numbers: _containers.RepeatedScalarFieldContainer[int]
    memory_ms: int
    def __init__(self, latest_ms: _Optional[int] = ..., age_ms: _Optional[int] = ..., entry_ages_ms: _Optional[_Iterable[int]] = ..., entry_numbers: _Optional[_Iterable[int]] = ..., memory_ms: _Optional[int] = ...) -> None: ...
