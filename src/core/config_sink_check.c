/*
 * config_sink_check: what a sink cannot be: its type decides which keys it has and which it needs, who
 * we are to the upstream is said in one way, and no two sinks write one file. Each problem names where
 * the key was set (or the sink, when it is missing) and what would do. Then what defaults leave open is
 * filled in: kinds, source, aws_service.
 */
#include "core/config_table.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KINDS_ALL    UINT32_C(0x3E) /* log metric event run gpu: bits 1 to 5 */
#define KINDS_METRIC UINT32_C(0x04)

struct sink_check {
    struct config_load *load;
    const struct config_family *family;
    unsigned i;
    struct config_sink *sink;
};

static const char *sink_type_name(enum sink_type type)
{
    const struct config_key *key = config_family_key(&config_families[CONFIG_FAMILY_SINK], "type");
    return key->words[type];
}

static bool is_set(const struct sink_check *check, const char *key)
{
    return config_item_is_set(check->load, check->family, check->i, key);
}

/* Neither of two refused values is judged against the other: their problems have been said. */
static bool is_trusted(const struct sink_check *check, const char *key)
{
    return config_item_is_trusted(check->load, check->family, check->i, key);
}

#define SAY(check, key, ...)                                                                       \
    config_item_problem((check)->load, (check)->family, (check)->i, key, __VA_ARGS__)
#define WARN(check, key, ...)                                                                      \
    config_item_warning((check)->load, (check)->family, (check)->i, key, __VA_ARGS__)

static bool sink_has(const struct sink_check *check, const char *key)
{
    const struct config_key *row = config_family_key(check->family, key);
    return (row->sink_types & UINT32_C(1) << check->sink->type) != 0;
}

/* "sinks of type http, file have it" */
static void sink_put_types(struct buf *out, uint32_t types)
{
    const char *comma = "";
    for (unsigned type = SINK_HTTP; type <= SINK_FILE; type++) {
        if ((types & UINT32_C(1) << type) != 0) {
            buf_printf(out, "%s%s", comma, sink_type_name((enum sink_type)type));
            comma = ", ";
        }
    }
}

/* A key that would have no effect is a misunderstanding, and those are cheapest now. */
static void check_belonging(const struct sink_check *check)
{
    for (size_t i = 0; i < check->family->key_count; i++) {
        const struct config_key *key = &check->family->keys[i];
        if (sink_has(check, key->name) || !is_set(check, key->name)) {
            continue;
        }
        char memory[128];
        struct buf types;
        buf_init(&types, memory, sizeof memory);
        sink_put_types(&types, key->sink_types);
        SAY(check, key->name, "is not for type %s (only for %.*s): remove it",
            sink_type_name(check->sink->type), (int)types.bytes, memory);
    }
}

static void check_url(const struct sink_check *check)
{
    const struct config_sink *sink = check->sink;
    struct err reason = {.code = 0};
    if (!sink_has(check, "url") || !is_trusted(check, "url")) {
        return;
    }
    if (sink->url[0] == '\0') {
        SAY(check, "url", "is missing: set it to the http:// or https:// address of the upstream");
    } else if (config_text_url(sink->url, &reason) < 0) {
        SAY(check, "url", "%s", reason.text);
    }
}

/* Bytes of path without "./" and doubled slashes, so that two ways to write one file are found. */
static void path_simplify(char *out, size_t capacity, const char *path)
{
    size_t bytes = 0;
    for (const char *p = path; *p != '\0' && bytes + 1 < capacity;) { /* bounded by the text */
        bool is_start = p == path || p[-1] == '/';
        if (is_start && p[0] == '.' && p[1] == '/') {
            p += 2;
        } else if (p[0] == '/' && p > path && p[-1] == '/') {
            p++;
        } else {
            out[bytes++] = *p++;
        }
    }
    out[bytes] = '\0';
}

static void check_path_is_alone(const struct sink_check *check)
{
    const struct config *config = check->load->config;
    char path[CONFIG_SINK_TEXT];
    char other[CONFIG_SINK_TEXT];
    path_simplify(path, sizeof path, check->sink->path);
    for (unsigned i = 0; i < check->i; i++) {
        path_simplify(other, sizeof other, config->sinks[i].path);
        if (config->sinks[i].type == SINK_FILE && strcmp(path, other) == 0) {
            SAY(check, "path", "%s is written by sink.%s already: give each its own file", path,
                config->sinks[i].name);
            return;
        }
    }
}

static void check_path(const struct sink_check *check)
{
    const char *path = check->sink->path;
    if (!sink_has(check, "path") || !is_trusted(check, "path")) {
        return;
    }
    if (path[0] == '\0') {
        SAY(check, "path", "is missing: set it to the file that is to be written");
    } else if (path[strlen(path) - 1] == '/') {
        SAY(check, "path", "names a directory: add a file name");
    } else {
        check_path_is_alone(check);
    }
}

static void check_kinds(const struct sink_check *check)
{
    struct config_sink *sink = check->sink;
    bool is_metric_only = sink->type == SINK_TIMESTREAM || sink->type == SINK_INFLUX;
    uint32_t possible = is_metric_only ? KINDS_METRIC : KINDS_ALL;
    if (sink->kinds == 0 || !sink_has(check, "kinds")) {
        sink->kinds = possible;
    } else if ((sink->kinds & ~possible) != 0) {
        SAY(check, "kinds", "type %s takes metric only: set metric, or remove the key",
            sink_type_name(sink->type));
    }
}

/* Servers that cannot decode would refuse the request, and records with it. */
static void check_compression(const struct sink_check *check)
{
    if (check->sink->type == SINK_OPENSEARCH && check->sink->compression == SINK_ZSTD) {
        SAY(check, "compression", "OpenSearch and Elasticsearch decode gzip only: set gzip");
    }
}

static void check_times(const struct sink_check *check)
{
    const struct config_sink *sink = check->sink;
    if (is_trusted(check, "backoff_min") && is_trusted(check, "backoff_max") &&
        sink->backoff_min_ns > sink->backoff_max_ns) {
        SAY(check, is_set(check, "backoff_max") ? "backoff_max" : "backoff_min",
            "backoff_min is longer than backoff_max: set backoff_max to at least backoff_min");
    }
}

/* Both or neither. */
static void check_pair(const struct sink_check *check, const char *a, const char *b)
{
    bool has_a = is_set(check, a);
    bool has_b = is_set(check, b);
    if (has_a != has_b && sink_has(check, a) && is_trusted(check, a) && is_trusted(check, b)) {
        SAY(check, has_a ? a : b, "needs %s as well: set both or neither", has_a ? b : a);
    }
}

/* One request has one Authorization header. */
static void check_identity(const struct sink_check *check)
{
    static const char *const ways[] = {"bearer_file", "user", "aws_region"};
    const char *first = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(ways); i++) {
        if (!is_set(check, ways[i]) || !sink_has(check, ways[i])) {
            continue;
        }
        if (first != NULL) {
            SAY(check, ways[i], "%s says already who we are to the upstream: remove one of them",
                first);
            return;
        }
        first = ways[i];
    }
}

static void check_headers(const struct sink_check *check)
{
    struct err reason = {.code = 0};
    if (sink_has(check, "headers") && config_text_headers(check->sink->headers, &reason) < 0) {
        SAY(check, "headers", "%s", reason.text);
    }
}

/* Never a reason not to start: a proxy may do TLS, a laboratory may have no certificates. */
static void warn_of_open_doors(const struct sink_check *check)
{
    static const char *const tls_keys[] = {"ca_file", "cert_file", "key_file"};
    static const char *const secrets[] = {"bearer_file", "api_key_file", "password_file"};
    const struct config_sink *sink = check->sink;
    if (!sink_has(check, "url") || sink->url[0] == '\0') {
        return;
    }
    if (!sink->verify) {
        WARN(check, "verify",
             "the upstream's certificate is not checked: anybody on the way can read and answer; "
             "name its CA in ca_file instead");
    }
    if (strncmp(sink->url, "http://", 7) != 0) {
        return;
    }
    for (size_t i = 0; i < ARRAY_COUNT(tls_keys); i++) {
        if (is_set(check, tls_keys[i])) {
            WARN(check, tls_keys[i], "has no effect: the address begins with http://");
        }
    }
    for (size_t i = 0; i < ARRAY_COUNT(secrets); i++) {
        if (is_set(check, secrets[i]) && !config_text_url_is_loopback(sink->url)) {
            WARN(check, secrets[i], "the secret goes over the network in clear: use https://");
        }
    }
}

static bool aws_name_is_good(const char *text)
{
    size_t bytes = strlen(text);
    return bytes == strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-");
}

static void check_aws(const struct sink_check *check)
{
    const struct config_sink *sink = check->sink;
    if (!sink_has(check, "aws_region") || !is_trusted(check, "aws_region")) {
        return;
    }
    if (sink->aws_region[0] == '\0') {
        bool is_s3_of_aws = sink->type == SINK_S3 && config_text_url_is_aws(sink->url);
        if (sink->type == SINK_TIMESTREAM || is_s3_of_aws) {
            SAY(check, "aws_region",
                "is missing: set it to the region of the address, such as "
                "eu-central-1");
            return;
        }
        static const char *const others[] = {"aws_service", "aws_credentials_file"};
        for (size_t i = 0; i < ARRAY_COUNT(others); i++) {
            if (is_set(check, others[i])) {
                SAY(check, others[i], "needs aws_region as well: without it nothing is signed");
            }
        }
        return;
    }
    if (!aws_name_is_good(sink->aws_region)) {
        SAY(check, "aws_region", "is no region: write it as in eu-central-1");
    }
    if (!aws_name_is_good(sink->aws_service)) {
        SAY(check, "aws_service", "is no service: write it as in execute-api");
    }
}

static void check_timestream(const struct sink_check *check)
{
    static const char *const keys[] = {"database", "table"};
    const char *const texts[] = {check->sink->database, check->sink->table};
    for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
        if (texts[i][0] == '\0' && is_trusted(check, keys[i])) {
            SAY(check, keys[i], "is missing: Timestream has no default");
        } else if (texts[i][0] != '\0' && !config_text_is_timestream_name(texts[i])) {
            SAY(check, keys[i], "is no name of Timestream: 3 or more of A-Z a-z 0-9 _ . -");
        }
    }
}

/* They stand between backquotes in the query; what would need an escape there is not worth having. */
static void check_clickhouse(const struct sink_check *check)
{
    const struct config_sink *sink = check->sink;
    if (sink->table[0] == '\0' && is_trusted(check, "table")) {
        SAY(check, "table", "is missing: set it to the table that records go into");
    } else if (strpbrk(sink->table, "`\\.") != NULL) {
        SAY(check, "table", "must not have ` \\ or '.': the database has its own key");
    }
    if (strpbrk(sink->database, "`\\") != NULL) {
        SAY(check, "database", "must not have ` or \\");
    }
}

static void check_index(const struct sink_check *check)
{
    struct err reason = {.code = 0};
    if (config_text_index(check->sink->index, &reason) < 0) {
        SAY(check, "index", "%s", reason.text);
    }
}

static void check_type(const struct sink_check *check)
{
    switch (check->sink->type) {
    case SINK_TIMESTREAM:
        check_timestream(check);
        break;
    case SINK_CLICKHOUSE:
        check_clickhouse(check);
        break;
    case SINK_OPENSEARCH:
        check_index(check);
        break;
    case SINK_HTTP:
    case SINK_FILE:
        if (is_set(check, "source") && check->sink->format != SINK_OBJECT) {
            SAY(check, "source", "is for format = object only: set it, or remove the key");
        }
        break;
    case SINK_NONE:
    case SINK_S3:
    case SINK_INFLUX:
    case SINK_SLUICE:
        break;
    }
}

/* What the documents call the default of these keys is known only now. */
static void sink_complete(struct config_sink *sink)
{
    static const char *const services[] = {[SINK_HTTP] = "execute-api",
                                           [SINK_OPENSEARCH] = "es",
                                           [SINK_TIMESTREAM] = "timestream",
                                           [SINK_S3] = "s3",
                                           [SINK_FILE] = NULL};
    const char *service = services[sink->type];
    if (sink->aws_region[0] != '\0' && sink->aws_service[0] == '\0' && service != NULL) {
        (void)snprintf(sink->aws_service, sizeof sink->aws_service, "%s", service);
    }
    if (sink->format == SINK_OBJECT && sink->source[0] == '\0' &&
        gethostname(sink->source, sizeof sink->source - 1) < 0) {
        (void)snprintf(sink->source, sizeof sink->source, "sluice"); /* UNTESTED: it cannot fail */
    }
}

static void check_sink(const struct sink_check *check)
{
    if (check->sink->type == SINK_NONE) {
        if (is_trusted(check, "type")) {
            SAY(check, "type",
                "is missing: http, opensearch, timestream, s3, clickhouse, influx, sluice or file");
        }
        return; /* nothing else can be judged without it */
    }
    check_belonging(check);
    check_url(check);
    check_path(check);
    check_kinds(check);
    check_compression(check);
    check_times(check);
    check_pair(check, "user", "password_file");
    check_pair(check, "cert_file", "key_file");
    check_identity(check);
    check_headers(check);
    check_aws(check);
    check_type(check);
    warn_of_open_doors(check);
    sink_complete(check->sink);
}

void config_check_sinks(struct config_load *load)
{
    struct sink_check check = {.load = load, .family = &config_families[CONFIG_FAMILY_SINK]};
    for (check.i = 0; check.i < load->config->sink_count; check.i++) {
        check.sink = &load->config->sinks[check.i];
        check_sink(&check);
    }
}
