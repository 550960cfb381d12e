"""The AWS protocol: routes, parsing, validation, signatures, serialisation, errors."""
