"""The messages of etcd's v3 API that are used here, with their field numbers.

They live in a descriptor pool of their own: the names of etcd's published files may be registered
once per process only, and another etcd client in the process would have taken them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

_PACKAGE = "pillion.etcd"

_FIELDS = {
    # Fields are number:name:type; "*" repeats, and the fields after "|" are alternatives.
    # Enumerations travel as int32.
    "Header": "1:cluster_id:uint64 2:member_id:uint64 3:revision:int64 4:raft_term:uint64",
    "KeyValue": (
        "1:key:bytes 2:create_revision:int64 3:mod_revision:int64 4:version:int64 5:value:bytes "
        "6:lease:int64"
    ),
    "Event": "1:type:int32 2:kv:KeyValue",
    "RangeRequest": (
        "1:key:bytes 2:range_end:bytes 3:limit:int64 4:revision:int64 7:serializable:bool "
        "8:keys_only:bool"
    ),
    "RangeResponse": "1:header:Header 2:kvs:*KeyValue 3:more:bool 4:count:int64",
    "PutRequest": "1:key:bytes 2:value:bytes 3:lease:int64",
    "PutResponse": "1:header:Header",
    "DeleteRangeRequest": "1:key:bytes 2:range_end:bytes",
    "DeleteRangeResponse": "1:header:Header 2:deleted:int64",
    "RequestOp": (
        "| 1:request_range:RangeRequest 2:request_put:PutRequest "
        "3:request_delete_range:DeleteRangeRequest"
    ),
    "ResponseOp": (
        "| 1:response_range:RangeResponse 2:response_put:PutResponse "
        "3:response_delete_range:DeleteRangeResponse"
    ),
    "Compare": (
        "1:result:int32 2:target:int32 3:key:bytes | 4:version:int64 5:create_revision:int64 "
        "6:mod_revision:int64"
    ),
    "TxnRequest": "1:compare:*Compare 2:success:*RequestOp 3:failure:*RequestOp",
    "TxnResponse": "1:header:Header 2:succeeded:bool 3:responses:*ResponseOp",
    "WatchCreateRequest": (
        "1:key:bytes 2:range_end:bytes 3:start_revision:int64 4:progress_notify:bool"
    ),
    "WatchRequest": "| 1:create_request:WatchCreateRequest",
    "WatchResponse": (
        "1:header:Header 2:watch_id:int64 3:created:bool 4:canceled:bool 5:compact_revision:int64 "
        "6:cancel_reason:string 11:events:*Event"
    ),
    "LeaseGrantRequest": "1:TTL:int64 2:ID:int64",
    "LeaseGrantResponse": "1:header:Header 2:ID:int64 3:TTL:int64 4:error:string",
    "LeaseRevokeRequest": "1:ID:int64",
    "LeaseRevokeResponse": "1:header:Header",
    "LeaseKeepAliveRequest": "1:ID:int64",
    "LeaseKeepAliveResponse": "1:header:Header 2:ID:int64 3:TTL:int64",
    "AuthenticateRequest": "1:name:string 2:password:string",
    "AuthenticateResponse": "1:header:Header 2:token:string",
    # What Dapr's state.etcd v2 stores as a key's value.
    "Moment": "1:seconds:int64 2:nanos:int32",
    "StoredValue": "1:data:bytes 2:ts:Moment 3:ttl:Moment",
}

_SCALARS = {
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "string": FieldDescriptorProto.TYPE_STRING,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
}


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="pillion/etcd.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        alternatives = False
        for word in fields.split():
            if word == "|":
                alternatives = True
                message.oneof_decl.add(name="one")
                continue
            number, field_name, kind = word.split(":")
            field = message.field.add(name=field_name, number=int(number))
            repeated = kind.startswith("*")
            field.label = (
                FieldDescriptorProto.LABEL_REPEATED
                if repeated
                else FieldDescriptorProto.LABEL_OPTIONAL
            )
            kind = kind.lstrip("*")
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
            else:
                field.type = FieldDescriptorProto.TYPE_MESSAGE
                field.type_name = f".{_PACKAGE}.{kind}"
            if alternatives:
                field.oneof_index = 0
    return file


_POOL = DescriptorPool()
_POOL.Add(_file())


def _message(name: str) -> Any:
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


RangeRequest = _message("RangeRequest")
PutRequest = _message("PutRequest")
DeleteRangeRequest = _message("DeleteRangeRequest")
RequestOp = _message("RequestOp")
Compare = _message("Compare")
TxnRequest = _message("TxnRequest")
WatchCreateRequest = _message("WatchCreateRequest")
WatchRequest = _message("WatchRequest")
LeaseGrantRequest = _message("LeaseGrantRequest")
LeaseRevokeRequest = _message("LeaseRevokeRequest")
LeaseKeepAliveRequest = _message("LeaseKeepAliveRequest")
AuthenticateRequest = _message("AuthenticateRequest")
StoredValue = _message("StoredValue")


class Method(NamedTuple):
    """A remote procedure: its path, and how its messages become bytes and back."""

    path: str
    write: Any
    read: Any


def _method(path: str, request: str, response: str) -> Method:
    return Method(path, _message(request).SerializeToString, _message(response).FromString)


RANGE = _method("/etcdserverpb.KV/Range", "RangeRequest", "RangeResponse")
PUT = _method("/etcdserverpb.KV/Put", "PutRequest", "PutResponse")
DELETE = _method("/etcdserverpb.KV/DeleteRange", "DeleteRangeRequest", "DeleteRangeResponse")
TXN = _method("/etcdserverpb.KV/Txn", "TxnRequest", "TxnResponse")
WATCH = _method("/etcdserverpb.Watch/Watch", "WatchRequest", "WatchResponse")
GRANT = _method("/etcdserverpb.Lease/LeaseGrant", "LeaseGrantRequest", "LeaseGrantResponse")
REVOKE = _method("/etcdserverpb.Lease/LeaseRevoke", "LeaseRevokeRequest", "LeaseRevokeResponse")
KEEP_ALIVE = _method(
    "/etcdserverpb.Lease/LeaseKeepAlive", "LeaseKeepAliveRequest", "LeaseKeepAliveResponse"
)
AUTHENTICATE = _method(
    "/etcdserverpb.Auth/Authenticate", "AuthenticateRequest", "AuthenticateResponse"
)

__all__ = [
    "AUTHENTICATE",
    "DELETE",
    "GRANT",
    "KEEP_ALIVE",
    "PUT",
    "RANGE",
    "REVOKE",
    "TXN",
    "WATCH",
    "AuthenticateRequest",
    "Compare",
    "DecodeError",
    "DeleteRangeRequest",
    "LeaseGrantRequest",
    "LeaseKeepAliveRequest",
    "LeaseRevokeRequest",
    "Method",
    "PutRequest",
    "RangeRequest",
    "RequestOp",
    "StoredValue",
    "TxnRequest",
    "WatchCreateRequest",
    "WatchRequest",
]
