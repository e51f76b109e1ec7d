"""Which function does which operation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from headrace.gateways.http.messages import Response
from headrace.gateways.s3.acls import get_bucket_acl, get_object_acl, put_bucket_acl, put_object_acl
from headrace.gateways.s3.buckets import (
    create_bucket,
    delete_bucket,
    get_bucket_location,
    get_bucket_versioning,
    head_bucket,
    list_buckets,
)
from headrace.gateways.s3.context import Call
from headrace.gateways.s3.copying import copy_object
from headrace.gateways.s3.deleting import delete_object, delete_objects
from headrace.gateways.s3.listing import list_objects
from headrace.gateways.s3.multipart import (
    abort_multipart_upload,
    complete_multipart_upload,
    create_multipart_upload,
    upload_part,
    upload_part_copy,
)
from headrace.gateways.s3.object_attributes import get_object_attributes
from headrace.gateways.s3.objects import get_object, head_object
from headrace.gateways.s3.post import post_object
from headrace.gateways.s3.put import put_object
from headrace.gateways.s3.routes import Operation
from headrace.gateways.s3.tags import delete_object_tagging, get_object_tagging, put_object_tagging
from headrace.gateways.s3.uploads import list_multipart_uploads, list_parts
from headrace.gateways.s3.versions import list_object_versions

OPERATIONS: dict[Operation, Callable[[Call], Awaitable[Response]]] = {
    Operation.LIST_BUCKETS: list_buckets,
    Operation.HEAD_BUCKET: head_bucket,
    Operation.CREATE_BUCKET: create_bucket,
    Operation.DELETE_BUCKET: delete_bucket,
    Operation.GET_BUCKET_ACL: get_bucket_acl,
    Operation.PUT_BUCKET_ACL: put_bucket_acl,
    Operation.GET_OBJECT_ACL: get_object_acl,
    Operation.PUT_OBJECT_ACL: put_object_acl,
    Operation.GET_BUCKET_LOCATION: get_bucket_location,
    Operation.GET_BUCKET_VERSIONING: get_bucket_versioning,
    Operation.LIST_OBJECTS: list_objects,
    Operation.LIST_OBJECTS_V2: list_objects,
    Operation.LIST_OBJECT_VERSIONS: list_object_versions,
    Operation.LIST_MULTIPART_UPLOADS: list_multipart_uploads,
    Operation.GET_OBJECT: get_object,
    Operation.HEAD_OBJECT: head_object,
    Operation.GET_OBJECT_ATTRIBUTES: get_object_attributes,
    Operation.GET_OBJECT_TAGGING: get_object_tagging,
    Operation.PUT_OBJECT_TAGGING: put_object_tagging,
    Operation.DELETE_OBJECT_TAGGING: delete_object_tagging,
    Operation.PUT_OBJECT: put_object,
    Operation.POST_OBJECT: post_object,
    Operation.COPY_OBJECT: copy_object,
    Operation.DELETE_OBJECT: delete_object,
    Operation.DELETE_OBJECTS: delete_objects,
    Operation.CREATE_MULTIPART_UPLOAD: create_multipart_upload,
    Operation.UPLOAD_PART: upload_part,
    Operation.UPLOAD_PART_COPY: upload_part_copy,
    Operation.COMPLETE_MULTIPART_UPLOAD: complete_multipart_upload,
    Operation.ABORT_MULTIPART_UPLOAD: abort_multipart_upload,
    Operation.LIST_PARTS: list_parts,
}
