"""The requirement document's own stack: FastAPI, a Pydantic model, an append to a file buffer. CoreTelemetry §3 and §4."""
import os
from typing import Optional

from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
buffer = open(os.environ.get("BUFFER_FILE", "/tmp/coretelemetry.buffer"), "a")


class LogEntry(BaseModel):
    timestamp: str
    service: str
    level: str
    message: str
    correlation_id: Optional[str] = None


@app.post("/v1/logs", status_code=202)
async def post_log(entry: LogEntry):
    buffer.write(entry.json() + "\n")
    buffer.flush()
    return {"status": "accepted"}


@app.get("/healthcheck")
async def healthcheck():
    return {"status": "ok"}
