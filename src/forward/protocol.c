/*
 * protocol: the table of them; see protocol.h. Pure.
 */
#include "forward/protocol.h"

#include "forward/protocol_table.h"

const struct protocol *protocol_of(enum sink_type type)
{
    static const struct protocol *const protocols[] = {
        [SINK_HTTP] = &protocol_http,
        [SINK_OPENSEARCH] = &protocol_opensearch,
        [SINK_TIMESTREAM] = &protocol_timestream,
        [SINK_S3] = &protocol_s3,
        [SINK_CLICKHOUSE] = &protocol_clickhouse,
        [SINK_INFLUX] = &protocol_influx,
        [SINK_SLUICE] = &protocol_sluice,
        [SINK_FILE] = &protocol_file,
    };
    ASSERT((size_t)type < ARRAY_COUNT(protocols));
    ASSERT(protocols[type] != NULL);
    return protocols[type];
}

int protocol_check(const struct config_sink *sink, struct err *err)
{
    const struct protocol *protocol = protocol_of(sink->type);
    return protocol->check == NULL ? 0 : protocol->check(sink, err);
}
