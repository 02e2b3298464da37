"""Values, headers, methods and paths that a request should not have."""

from typing import Any

JSON_LENGTH = b"Inference-Header-Content-Length"
ODD_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 1e308, -0.0, 5e-324),
    *("", "\x00", "\ud7ff", "x" * 3000, "7", "NaN", "2025-06-15", "a\nb", "../../etc/passwd"),
    *(1.5, "é" * 300, [1] * 11_000, "9" * 400),
    *([], {}, [[]], [None], {"": None}, [1, "a", None], [[[[[[[[[[]]]]]]]]]]),
]
ODD_TEXTS = [
    *(
        b"",
        b"0",
        b"-1",
        b"1e3",
        b"0x10",
        b"9" * 400,
        b"null",
        b"many",
        b"\xff\xfe",
        b"\xb2",
        b"a" * 9000,
    ),
    *(
        b"1, 2",
        b"*/*;q=2",
        b"Bearer",
        b"Bearer x y",
        b"00-0-0-00",
        b"00-" + b"f" * 32 + b"-",
        b";=,",
    ),
    *(
        b"application/json; charset=utf-16",
        b"text/plain",
        b"multipart/form-data",
        b"gzip, br",
        b"\t",
    ),
]
HEADERS = [
    *(JSON_LENGTH, b"Content-Type", b"Content-Encoding", b"Accept", b"Accept-Encoding", b"Cookie"),
    *(
        b"Authorization",
        b"traceparent",
        b"tracestate",
        b"X-Request-Id",
        b"Host",
        b"Origin",
        b"Range",
    ),
    *(b"If-None-Match", b"ce-specversion", b"ce-type", b"X-Forwarded-For", b"Triton-Request-Id"),
]
METHODS = ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"]
ODD_PATHS = [
    *("/", "/metrics", "/v2", "/v2/models", "/v2/models/stand-in", "/v2/models/stand-in/ready"),
    *("/v2/models/%00/infer", "/v2/models/stand-in/versions/%ff/infer", "/v2/models//infer"),
    *(
        "/v2/models/stand-in/versions/x/infer",
        "/v1/models",
        "/v1/models/stand-in",
        "/v1/models/:predict",
    ),
    *(
        "/v1/models/stand-in:explain",
        "/v2/repository/index",
        "/v2/repository/models/stand-in/unload",
    ),
    *(
        "/v2/repository/models/x/load",
        "/v2/models/stand-in/infer?a=%&b",
        "/openapi.json",
        "/%2e%2e/x",
    ),
    *("/v2/models/" + "r" * 5000, "//", "/v2/models/stand-in/infer/", "/v2/health/ready"),
]
