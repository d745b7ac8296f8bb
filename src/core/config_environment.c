/*
 * config_environment: SLUICE_SECTION_KEY for every key, and the names people bring from the systems
 * Sluice replaces (api.md §6).
 *
 * The brought names are read first, so that a Sluice name that says something else is found: an
 * error that names both, because guessing which one is meant is how a server ends up on the wrong
 * port. Names that belong to parts which are not configured here (the client library, tests)
 * are left alone; any other SLUICE_* is a typing error and said to be one.
 */
#include "core/config_table.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Brought names whose value is the value of a key. */
static const struct {
    const char *variable;
    const char *key;
    const char *suffix; /* the unit that the old name implies */
} environment_names[] = {
    {"TELEMETRY_BASE_DIR", "store.data_dir", ""},
    {"TELEMETRY_DB_PATH", "runs.db", ""},
    {"TELEMETRY_LOCK_FILE", "runs.lock_file", ""},
    {"TELEMETRY_NDJSON_DIR", "runs.ndjson_dir", ""},
    {"TELEMETRY_API_AUTH_ENABLED", "auth.enabled", ""},
    {"TELEMETRY_RATE_LIMIT_ENABLED", "rate_limit.enabled", ""},
    {"TELEMETRY_RATE_LIMIT_RPM", "rate_limit.rpm", ""},
    {"TELEMETRY_RETENTION_DAYS", "store.retention_age", "d"},
    {"LOG_LEVEL", "log.level", ""},
    {"THROTTLE_ENABLED", "throttle.enabled", ""},
    {"THROTTLE_MAX_QUEUE_DEPTH", "throttle.max_queue_depth", ""},
    {"THROTTLE_RATE", "throttle.rate", ""},
};

/* Brought names that are ports. The systems behind them were several processes, each with its own;
 * Sluice listens on each. */
static const char *const environment_ports[] = {"TELEMETRY_API_PORT", "HTTP_PORT", "GATEWAY_PORT",
                                                "PORT"};

/* SLUICE_* that are no keys of this table. The last three come from Kubernetes, which tells every
 * pod of a namespace about a Service named "sluice" in such variables. */
static const char *const environment_foreign[] = {
    "SLUICE_TEST_", "SLUICE_MEM_LATCH=", "SLUICE_PORT=", "SLUICE_PORT_", "SLUICE_SERVICE_"};

/* Which brought name set a key, "" for none. */
struct environment_claims {
    char variable[CONFIG_KEYS_MAX][64];
};

/* The value, or NULL when it is not set or empty: `PORT=` in a compose file means "not set". */
static const char *environment_get(char *const *environment, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; environment[i] != NULL; i++) {
        if (strncmp(environment[i], name, n) == 0 && environment[i][n] == '=') {
            return environment[i][n + 1] != '\0' ? environment[i] + n + 1 : NULL;
        }
    }
    return NULL;
}

static void environment_claim(struct environment_claims *claims, const char *key_name,
                              const char *variable)
{
    const struct config_key *key = config_table_find(key_name);
    ASSERT(key != NULL);
    (void)snprintf(claims->variable[key - config_table], sizeof claims->variable[0], "%s",
                   variable);
}

static void environment_read_names(struct config_load *load, char *const *environment,
                                   struct environment_claims *claims)
{
    for (size_t i = 0; i < ARRAY_COUNT(environment_names); i++) {
        const char *value = environment_get(environment, environment_names[i].variable);
        if (value == NULL) {
            continue;
        }
        char text[CONFIG_VALUE_BYTES];
        (void)snprintf(text, sizeof text, "%.1024s%s", value, environment_names[i].suffix);
        config_offer(load, environment_names[i].key, text, environment_names[i].variable);
        environment_claim(claims, environment_names[i].key, environment_names[i].variable);
    }
}

static bool environment_port_is_valid(struct config_load *load, const char *variable,
                                      const char *value)
{
    size_t n = strlen(value);
    if (n > 5 || strspn(value, "0123456789") != n) {
        config_problem(load, "%s: '%.*s' is not a port (1 to 65535)", variable,
                       CONFIG_PROBLEM_SHOWN, value);
        return false;
    }
    return true;
}

/* TELEMETRY_API_HOST is the host of every port; without it the server stays on the loopback
 * interface. */
static void environment_read_ports(struct config_load *load, char *const *environment,
                                   struct environment_claims *claims)
{
    const char *host = environment_get(environment, "TELEMETRY_API_HOST");
    const char *ports[ARRAY_COUNT(environment_ports)];
    size_t port_count = 0;
    char names[64] = "";
    for (size_t i = 0; i < ARRAY_COUNT(environment_ports); i++) {
        const char *port = environment_get(environment, environment_ports[i]);
        if (port == NULL || !environment_port_is_valid(load, environment_ports[i], port)) {
            continue;
        }
        bool is_repeat = false;
        for (size_t j = 0; j < port_count; j++) {
            is_repeat |= strcmp(ports[j], port) == 0;
        }
        if (!is_repeat) {
            size_t used = strlen(names);
            (void)snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? "+" : "",
                           environment_ports[i]);
            ports[port_count++] = port;
        }
    }
    if (port_count == 0 && host != NULL) {
        (void)snprintf(names, sizeof names, "TELEMETRY_API_HOST");
        ports[port_count++] = "8080";
    }
    if (port_count == 0) {
        return;
    }
    char text[CONFIG_VALUE_BYTES];
    struct buf list;
    buf_init(&list, text, sizeof text - 1);
    for (size_t i = 0; i < port_count; i++) {
        const char *name = host != NULL ? host : "127.0.0.1";
        bool needs_brackets = strchr(name, ':') != NULL && name[0] != '[';
        buf_printf(&list, "%s%s%.255s%s:%s", i > 0 ? "," : "", needs_brackets ? "[" : "", name,
                   needs_brackets ? "]" : "", ports[i]);
    }
    text[list.bytes] = '\0';
    config_offer(load, "server.listen", text, names);
    environment_claim(claims, "server.listen", names);
}

/* Brought names that set nothing but promise something. */
static void environment_check_promises(struct config_load *load, char *const *environment)
{
    const char *workers = environment_get(environment, "TELEMETRY_API_WORKERS");
    if (workers != NULL && strcmp(workers, "1") != 0) {
        config_problem(
            load,
            "TELEMETRY_API_WORKERS: must be 1, not '%.*s': one process writes the database; "
            "server.shards sets the threads",
            CONFIG_PROBLEM_SHOWN, workers);
    }
    const char *journal = environment_get(environment, "TELEMETRY_DB_JOURNAL_MODE");
    if (journal != NULL && strcasecmp(journal, "DELETE") != 0) {
        config_warning(
            load, "TELEMETRY_DB_JOURNAL_MODE: '%.*s' is ignored: the runs database uses DELETE",
            CONFIG_PROBLEM_SHOWN, journal);
    }
    const char *synchronous = environment_get(environment, "TELEMETRY_DB_SYNCHRONOUS");
    if (synchronous != NULL && strcasecmp(synchronous, "FULL") != 0) {
        config_problem(load,
                       "TELEMETRY_DB_SYNCHRONOUS: must be FULL, not '%.*s': an answer means that "
                       "the run is stored",
                       CONFIG_PROBLEM_SHOWN, synchronous);
    }
}

/* One token with every scope. The text of a problem never shows it. */
static void environment_read_token(struct config_load *load, char *const *environment)
{
    const char *token = environment_get(environment, "TELEMETRY_API_AUTH_TOKEN");
    load->has_token = token != NULL;
    if (token == NULL) {
        return;
    }
    size_t bytes = strlen(token);
    bool is_visible = true;
    for (size_t i = 0; i < bytes; i++) {
        is_visible &= token[i] > ' ' && token[i] <= '~';
    }
    if (!is_visible || bytes >= sizeof load->config->auth_environment_token) {
        config_problem(load,
                       "TELEMETRY_API_AUTH_TOKEN: must be 1 to %zu visible ASCII characters "
                       "without spaces",
                       sizeof load->config->auth_environment_token - 1);
        return;
    }
    memcpy(load->config->auth_environment_token, token, bytes + 1);
}

/* Sets a key from its Sluice name; says so when a brought name said something else. */
static void environment_offer(struct config_load *load, const struct config_key *key,
                              const char *value, const char *variable,
                              const struct environment_claims *claims)
{
    const char *claim = claims->variable[key - config_table];
    if (claim[0] == '\0') {
        config_offer(load, key->name, value, variable);
        return;
    }
    char memory[CONFIG_VALUE_BYTES * 2];
    struct buf brought;
    struct buf ours;
    buf_init(&brought, memory, CONFIG_VALUE_BYTES);
    buf_init(&ours, memory + CONFIG_VALUE_BYTES, CONFIG_VALUE_BYTES);
    config_value_put(&brought, load->config, key);
    config_offer(load, key->name, value, variable);
    config_value_put(&ours, load->config, key);
    if (slice_equal((struct slice){brought.data, brought.bytes},
                    (struct slice){ours.data, ours.bytes})) {
        return;
    }
    config_problem(load, "%s says %.*s and %s says %.*s for %s: unset one of them", claim,
                   (int)u64_min(brought.bytes, CONFIG_PROBLEM_SHOWN), (const char *)brought.data,
                   variable, (int)u64_min(ours.bytes, CONFIG_PROBLEM_SHOWN),
                   (const char *)ours.data, key->name);
}

static const struct config_key *environment_key(const char *variable)
{
    char name[CONFIG_VARIABLE_BYTES];
    for (size_t i = 0; i < config_table_count; i++) {
        config_table_variable(name, &config_table[i]);
        if (strcmp(name, variable) == 0) {
            return &config_table[i];
        }
    }
    return NULL;
}

/* The nearest known variable, by way of the key it would be: every '_' of the wrong name may have
 * been a dot. */
static void environment_unknown(struct config_load *load, const char *variable)
{
    char dotted[64];
    size_t bytes = strnlen(variable + 7, sizeof dotted - 1); /* after "SLUICE_" */
    bool has_dot = false;
    for (size_t i = 0; i < bytes; i++) {
        char c = variable[7 + i];
        bool is_upper = c >= 'A' && c <= 'Z';
        bool is_dot = c == '_' && !has_dot;
        has_dot |= is_dot;
        dotted[i] = is_dot ? '.' : (char)(is_upper ? c - 'A' + 'a' : c);
    }
    dotted[bytes] = '\0';
    const char *nearest = config_table_nearest(dotted);
    if (nearest == NULL) {
        config_problem(load, "%s: no such key; `sluice config` lists them", variable);
        return;
    }
    char name[CONFIG_VARIABLE_BYTES];
    config_table_variable(name, config_table_find(nearest));
    config_problem(load, "%s: no such key; did you mean %s?", variable, name);
}

static bool environment_is_foreign(const char *entry)
{
    for (size_t i = 0; i < ARRAY_COUNT(environment_foreign); i++) {
        if (strncmp(entry, environment_foreign[i], strlen(environment_foreign[i])) == 0) {
            return true;
        }
    }
    return false;
}

void config_read_environment(struct config_load *load, char *const *environment)
{
    struct environment_claims claims;
    memset(&claims, 0, sizeof claims);
    environment_read_names(load, environment, &claims);
    environment_read_ports(load, environment, &claims);
    environment_check_promises(load, environment);
    environment_read_token(load, environment);
    for (size_t i = 0; environment[i] != NULL; i++) {
        const char *entry = environment[i];
        const char *equals = strchr(entry, '=');
        if (strncmp(entry, "SLUICE_", 7) != 0 || equals == NULL || environment_is_foreign(entry)) {
            continue;
        }
        char variable[128];
        (void)snprintf(variable, sizeof variable, "%.*s",
                       (int)u64_min((uint64_t)(equals - entry), 120), entry);
        const struct config_family *family = config_family_of_variable(variable);
        const struct config_key *key = environment_key(variable);
        if (family != NULL) {
            config_family_offer_variable(load, family, variable, equals + 1);
        } else if (key == NULL) {
            environment_unknown(load, variable);
        } else {
            environment_offer(load, key, equals + 1, variable, &claims);
        }
    }
}
