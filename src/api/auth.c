#include "api/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/mem.h"

_Static_assert(sizeof(((struct auth_token *)0)->words) == AUTH_TOKEN_BYTES_MAX + 1,
               "a token of any legal length is padded by at least one zero");

static const struct {
    const char *name;
    enum auth_scope scope;
} scope_names[] = {{"ingest", AUTH_INGEST}, {"read", AUTH_READ}, {"admin", AUTH_ADMIN}};

/* ---- the set ---- */

void auth_init(struct auth *auth, uint32_t capacity)
{
    ASSERT(capacity <= AUTH_TOKENS_MAX);
    *auth = (struct auth){.capacity = capacity};
    if (capacity != 0) {
        auth->tokens = mem_alloc_array(capacity, sizeof *auth->tokens);
    }
}

void auth_close(struct auth *auth)
{
    if (auth->tokens != NULL) {
        explicit_bzero(auth->tokens, auth->capacity * sizeof *auth->tokens);
        mem_free(auth->tokens);
    }
    *auth = (struct auth){0};
}

static bool text_is_visible(struct slice text)
{
    for (size_t i = 0; i < text.bytes; i++) {
        if (text.data[i] <= ' ' || text.data[i] > '~') {
            return false;
        }
    }
    return text.bytes != 0;
}

static void token_pad(uint64_t *words, struct slice token)
{
    ASSERT(token.bytes <= AUTH_TOKEN_BYTES_MAX);
    memset(words, 0, AUTH_WORDS * sizeof *words);
    memcpy(words, token.data, token.bytes);
}

/* 1 when all words are equal, else 0, always after a look at all of them. */
static uint64_t token_is_equal(const uint64_t *a, const uint64_t *b)
{
    uint64_t difference = 0;
    for (unsigned i = 0; i < AUTH_WORDS; i++) {
        difference |= a[i] ^ b[i];
    }
    /* From here on the compiler knows nothing of the value, so it cannot turn the sum above into a
     * comparison that ends early. */
    __asm__("" : "+r"(difference));
    return ((difference | (0 - difference)) >> 63) ^ 1;
}

/* The scopes of a token; 0: unknown. Walks the whole set. */
static uint32_t auth_scopes_of(const struct auth *auth, struct slice token)
{
    uint64_t words[AUTH_WORDS];
    uint32_t scopes = 0;
    token_pad(words, token);
    for (uint32_t i = 0; i < auth->count; i++) {
        uint32_t mask = 0 - (uint32_t)token_is_equal(words, auth->tokens[i].words);
        scopes |= mask & auth->tokens[i].scopes;
    }
    return scopes;
}

int auth_add(struct auth *auth, struct slice name, struct slice token, uint32_t scopes)
{
    ASSERT(name.bytes <= AUTH_NAME_BYTES_MAX);
    ASSERT(text_is_visible(token));
    ASSERT(scopes != 0);
    if (auth_scopes_of(auth, token) != 0) {
        return -EEXIST;
    }
    if (auth->count == auth->capacity) {
        return -ENOSPC;
    }
    struct auth_token *to = &auth->tokens[auth->count++];
    token_pad(to->words, token);
    memset(to->name, 0, sizeof to->name);
    memcpy(to->name, name.data, name.bytes);
    to->scopes = scopes;
    return 0;
}

/* ---- the file ---- */

struct line {
    const char *file;
    unsigned number;
    struct config_problems *problems;
};

static void line_problem(const struct line *line, const char *text)
{
    config_problems_add(line->problems, "%s:%u: %s", line->file, line->number, text);
}

/* Takes the next word off rest; empty at its end and where a comment begins. */
static struct slice line_word(struct slice *rest)
{
    size_t start = 0;
    while (start < rest->bytes && (rest->data[start] == ' ' || rest->data[start] == '\t')) {
        start++;
    }
    size_t end = start;
    while (end < rest->bytes && rest->data[end] != ' ' && rest->data[end] != '\t') {
        end++;
    }
    struct slice word = {rest->data + start, end - start};
    *rest = (struct slice){rest->data + end, rest->bytes - end};
    if (word.bytes != 0 && word.data[0] == '#') {
        *rest = (struct slice){rest->data, 0};
        return (struct slice){0};
    }
    return word;
}

/* 0: not a scope. */
static uint32_t scope_of(struct slice name)
{
    for (size_t i = 0; i < ARRAY_COUNT(scope_names); i++) {
        if (slice_equal(name, (struct slice){(const uint8_t *)scope_names[i].name,
                                             strlen(scope_names[i].name)})) {
            return scope_names[i].scope;
        }
    }
    return 0;
}

/* "read,admin" as bits; 0: something in it is no scope. */
static uint32_t scopes_of(struct slice list)
{
    uint32_t scopes = 0;
    size_t start = 0;
    for (size_t i = 0; i <= list.bytes; i++) {
        if (i < list.bytes && list.data[i] != ',') {
            continue;
        }
        uint32_t scope = scope_of((struct slice){list.data + start, i - start});
        if (scope == 0) {
            return 0;
        }
        scopes |= scope;
        start = i + 1;
    }
    return scopes;
}

/* NULL, or what is wrong with the words of a line. */
static const char *line_fault(struct slice name, struct slice token, struct slice list,
                              struct slice more)
{
    if (list.bytes == 0 || more.bytes != 0) {
        return "expected NAME TOKEN SCOPE[,SCOPE]";
    }
    if (!text_is_visible(name) || name.bytes > AUTH_NAME_BYTES_MAX) {
        return "a name is 1 to 63 visible ASCII characters";
    }
    if (!text_is_visible(token) || token.bytes > AUTH_TOKEN_BYTES_MAX) {
        return "a token is 1 to 255 visible ASCII characters";
    }
    return scopes_of(list) == 0 ? "a scope is ingest, read or admin" : NULL;
}

static void auth_parse_line(struct auth *auth, const struct line *line, struct slice rest)
{
    struct slice name = line_word(&rest);
    if (name.bytes == 0) {
        return;
    }
    struct slice token = line_word(&rest);
    struct slice list = line_word(&rest);
    const char *fault = line_fault(name, token, list, line_word(&rest));
    if (fault != NULL) {
        line_problem(line, fault);
        return;
    }
    int result = auth_add(auth, name, token, scopes_of(list));
    if (result == -EEXIST) {
        line_problem(line, "this token is listed already, on an earlier line or in "
                           "TELEMETRY_API_AUTH_TOKEN");
    } else if (result < 0) {
        line_problem(line, "too many tokens: at most 1024");
    }
}

unsigned auth_parse(struct auth *auth, const char *file, struct slice text,
                    struct config_problems *problems)
{
    struct line line = {.file = file, .problems = problems};
    unsigned before = problems->count;
    size_t start = 0;
    /* Each turn takes a line. */
    while (start < text.bytes) {
        const uint8_t *from = text.data + start;
        const uint8_t *end = memchr(from, '\n', text.bytes - start);
        size_t bytes = end != NULL ? (size_t)(end - from) : text.bytes - start;
        start += bytes + 1;
        line.number++;
        if (bytes != 0 && from[bytes - 1] == '\r') {
            bytes--;
        }
        auth_parse_line(auth, &line, (struct slice){from, bytes});
    }
    return problems->count - before;
}

/* ---- loading ---- */

/* Opens a file that nobody else may read. The descriptor, or -1 with a problem. */
static int auth_open_file(const char *file, struct config_problems *problems)
{
    struct stat stat;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang the start */
    if (fd < 0) {
        config_problems_add(problems, "auth.tokens: %s: %s", file, err_name(-errno));
        return -1;
    }
    if (fstat(fd, &stat) < 0 || !S_ISREG(stat.st_mode)) {
        config_problems_add(problems, "auth.tokens: %s: not a regular file", file);
    } else if ((stat.st_mode & 0177) != 0) {
        config_problems_add(problems,
                            "auth.tokens: %s: mode is %04o: tokens are secrets: chmod 0600 %s",
                            file, (unsigned)(stat.st_mode & 07777), file);
    } else if (stat.st_size > (off_t)AUTH_FILE_BYTES_MAX) {
        config_problems_add(problems, "auth.tokens: %s: larger than 1 MiB", file);
    } else {
        return fd;
    }
    close(fd);
    return -1;
}

/* Bytes read, up to capacity, or -errno. */
static ssize_t auth_read(int fd, uint8_t *to, size_t capacity)
{
    size_t used = 0;
    /* Bounded by capacity: each turn takes at least a byte. */
    while (used < capacity) {
        ssize_t n = read(fd, to + used, capacity - used);
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        used += (size_t)n;
    }
    return (ssize_t)used;
}

static void auth_load_file(struct auth *auth, const char *file, struct config_problems *problems)
{
    int fd = auth_open_file(file, problems);
    if (fd < 0) {
        return;
    }
    uint8_t *text = mem_alloc(AUTH_FILE_BYTES_MAX);
    ssize_t bytes = auth_read(fd, text, AUTH_FILE_BYTES_MAX);
    if (bytes < 0) {
        config_problems_add(problems, "auth.tokens: %s: %s", file, err_name((int)bytes));
    } else {
        (void)auth_parse(auth, file, (struct slice){text, (size_t)bytes}, problems);
    }
    explicit_bzero(text, AUTH_FILE_BYTES_MAX);
    mem_free(text);
    close(fd);
}

/* Gives back the room that the file did not need: a set may be kept for as long as the process. */
static void auth_trim(struct auth *auth)
{
    struct auth fit;
    auth_init(&fit, auth->count);
    if (auth->count != 0) {
        memcpy(fit.tokens, auth->tokens, auth->count * sizeof *fit.tokens);
    }
    fit.count = auth->count;
    auth_close(auth);
    *auth = fit;
}

int auth_load(struct auth *auth, const struct config *config, struct config_problems *problems)
{
    unsigned before = problems->count;
    *auth = (struct auth){0};
    if (!config->auth_enabled) {
        return 0;
    }
    auth_init(auth, AUTH_TOKENS_MAX);
    struct slice token = {(const uint8_t *)config->auth_environment_token,
                          strlen(config->auth_environment_token)};
    if (token.bytes != 0) {
        int result = auth_add(auth, SLICE_LITERAL("environment"), token,
                              AUTH_INGEST | AUTH_READ | AUTH_ADMIN);
        ASSERT(result == 0);
    }
    if (config->auth_tokens[0] != '\0') {
        auth_load_file(auth, config->auth_tokens, problems);
    }
    if (auth->count == 0 && problems->count == before) {
        config_problems_add(problems, "auth.tokens: %s: no token in it: nobody could get in",
                            config->auth_tokens);
    }
    if (problems->count != before) {
        auth_close(auth);
        return -EINVAL;
    }
    auth_trim(auth);
    return 0;
}

/* ---- judging ---- */

/* "Bearer <token>", the scheme in any case (RFC 9110 §11.1). */
static bool bearer_token(struct slice value, struct slice *token)
{
    static const char scheme[] = "Bearer";
    size_t at = sizeof scheme - 1;
    if (value.bytes <= at ||
        !slice_equal_nocase((struct slice){value.data, at}, SLICE_LITERAL(scheme))) {
        return false;
    }
    size_t start = at;
    while (start < value.bytes && (value.data[start] == ' ' || value.data[start] == '\t')) {
        start++;
    }
    *token = (struct slice){value.data + start, value.bytes - start};
    return start > at && text_is_visible(*token);
}

enum auth_verdict auth_check(const struct auth *auth, struct slice authorization,
                             enum auth_scope scope)
{
    struct slice token;
    if (authorization.bytes == 0) {
        return AUTH_MISSING;
    }
    if (!bearer_token(authorization, &token)) {
        return AUTH_FORMAT;
    }
    if (token.bytes > AUTH_TOKEN_BYTES_MAX) {
        return AUTH_UNKNOWN;
    }
    uint32_t scopes = auth_scopes_of(auth, token);
    if (scopes == 0) {
        return AUTH_UNKNOWN;
    }
    return (scopes & scope) != 0 ? AUTH_OK : AUTH_FORBIDDEN;
}

const char *auth_detail(enum auth_verdict verdict, enum auth_scope scope)
{
    switch (verdict) {
    case AUTH_MISSING:
        return "Authorization header required. Use: Authorization: Bearer <token>";
    case AUTH_FORMAT:
        return "Invalid authorization format. Use: Authorization: Bearer <token>";
    case AUTH_UNKNOWN:
        return "Invalid authentication token";
    case AUTH_FORBIDDEN:
        return scope == AUTH_INGEST ? "This token lacks the scope 'ingest'"
               : scope == AUTH_READ ? "This token lacks the scope 'read'"
                                    : "This token lacks the scope 'admin'";
    case AUTH_OK:
        break;
    }
    ASSERT(false);
    return "";
}
