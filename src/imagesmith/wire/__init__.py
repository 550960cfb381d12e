"""The AWS REST-JSON protocol of this service, driven by botocore's model: routes, checks, signatures, answers.

    socket -> server -> app -> service: authenticate -> route -> parse -> validate -> Dispatcher -> serialize
              uvicorn   ASGI   one request in a worker thread              (imagesmith.resources.dispatch)

No operation has code of its own here.
"""
