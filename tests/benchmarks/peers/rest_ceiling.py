"""The most that Starlette on uvicorn can do: read the body, give an answer that never changes."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

ANSWER = (
    b'{"model_name":"iris","model_version":"0123456789ab","outputs":['
    b'{"name":"predict","shape":[1],"datatype":"BYTES","data":["setosa"]},'
    b'{"name":"predict_proba","shape":[1,3],"datatype":"FP64",'
    b'"data":[0.9788243553379893,0.02117557155168437,7.311032636394438e-8]}]}'
)


async def infer(request: Request) -> Response:
    """Answer any request."""
    await request.body()
    return Response(ANSWER, media_type="application/json")


app = Starlette(routes=[Route("/v2/models/{model}/infer", infer, methods=["POST"])])
