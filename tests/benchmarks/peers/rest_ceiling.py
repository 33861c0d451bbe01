"""The upper bound of Starlette on uvicorn: read the body, return a constant response."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

BODY = (
    b'{"model_name":"iris","model_version":"0123456789ab","outputs":['
    b'{"name":"predict","shape":[1],"datatype":"BYTES","data":["setosa"]},'
    b'{"name":"predict_proba","shape":[1,3],"datatype":"FP64",'
    b'"data":[0.9788243553379893,0.02117557155168437,7.311032636394438e-8]}]}'
)


async def infer(request: Request) -> Response:
    await request.body()
    return Response(BODY, media_type="application/json")


app = Starlette(routes=[Route("/v2/models/{model}/infer", infer, methods=["POST"])])
