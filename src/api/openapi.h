/*
 * openapi: the description of the API for programs (GET /openapi.json, OpenAPI 3.1) and for people (GET /docs, one page without scripts
 * or anything from outside), both made from the route table that serves the requests and from openapi_table.h. Pure.
 */
#ifndef API_OPENAPI_H
#define API_OPENAPI_H

#include "core/buf.h"

/* Both fit into OPENAPI_BYTES_MAX. */
#define OPENAPI_BYTES_MAX (256u * 1024u)

void openapi_write(struct buf *body);
/* HTML. */
void openapi_page_write(struct buf *body);

#endif
