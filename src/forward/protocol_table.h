/*
 * protocol_table: the protocols by name; private to protocol.c and who builds on one of them.
 */
#ifndef FORWARD_PROTOCOL_TABLE_H
#define FORWARD_PROTOCOL_TABLE_H

#include "forward/protocol.h"

extern const struct protocol protocol_http;
extern const struct protocol protocol_opensearch;
extern const struct protocol protocol_timestream;
extern const struct protocol protocol_s3;
extern const struct protocol protocol_clickhouse;
extern const struct protocol protocol_influx;
extern const struct protocol protocol_sluice;
extern const struct protocol protocol_file;

#endif
