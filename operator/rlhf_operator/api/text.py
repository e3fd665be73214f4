"""Kinds of text that Kubernetes checks by itself, with the bounds that it sets."""

from typing import Annotated

from pydantic import Field

LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
"""A DNS label, RFC 1123."""

SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
"""A DNS subdomain, RFC 1123, but for dots side by side."""

QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
"""A quantity above or at zero, without exponents."""

DNSLabel = Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL)]
"""Names of volumes and pools."""

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=SUBDOMAIN)]
"""Names of most Kubernetes objects."""

LabelValue = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-\w.]*[A-Za-z0-9])?)?$")]

Quantity = Annotated[str, Field(min_length=1, max_length=32, pattern=QUANTITY)]
"""An amount of a resource, such as 500Gi."""

AbsolutePath = Annotated[str, Field(min_length=1, max_length=1024, pattern="^/[^:]*$")]

ShortText = Annotated[str, Field(max_length=1024)]
