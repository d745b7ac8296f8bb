/*
 * auth: bearer tokens and what each may do (api.md §0). A set is read once, never changed, and
 * shared by all shards; a reload makes a new one. Off by default.
 *
 * The file (auth.tokens) belongs to its owner alone (mode 0600): lines `NAME TOKEN SCOPE[,SCOPE]`,
 * words separated by blanks, `#` begins a comment where a word could begin. Everything wrong in it
 * is listed at once, with file and line; no text ever repeats a token.
 *
 * The time of a comparison depends on the number of tokens, never on how much of one is right: each
 * is compared over its whole padded length, and the walk does not end at a match.
 */
#ifndef API_AUTH_H
#define API_AUTH_H

#include "core/base.h"
#include "core/config.h"

#define AUTH_TOKENS_MAX      1024u
#define AUTH_TOKEN_BYTES_MAX 255u
#define AUTH_NAME_BYTES_MAX  63u
/* 1024 of the longest lines, and as much of comments. */
#define AUTH_FILE_BYTES_MAX (1024u * 1024u)

/* No scope contains another: a token that may do everything names all three. */
enum auth_scope {
    AUTH_INGEST = 1u << 0,
    AUTH_READ = 1u << 1,
    AUTH_ADMIN = 1u << 2,
};

enum auth_verdict {
    AUTH_OK = 0,
    AUTH_MISSING,   /* 401: no Authorization field */
    AUTH_FORMAT,    /* 401: not "Bearer <token>" */
    AUTH_UNKNOWN,   /* 401: no such token */
    AUTH_FORBIDDEN, /* 403: the token has not this scope */
};

#define AUTH_WORDS 32u /* 256 bytes: a token of any legal length and at least one zero */

struct auth_token {
    uint64_t words[AUTH_WORDS]; /* the token, padded with zeroes */
    char name[AUTH_NAME_BYTES_MAX + 1];
    uint32_t scopes; /* of enum auth_scope; never 0 */
};

struct auth {
    struct auth_token *tokens;
    uint32_t count;
    uint32_t capacity;
};

/* An empty set with room for capacity tokens. */
void auth_init(struct auth *auth, uint32_t capacity);
/* Wipes and frees. */
void auth_close(struct auth *auth);

/* Adds one token. 0, -EEXIST: the token is there already, -ENOSPC: the set is full. */
int auth_add(struct auth *auth, struct slice name, struct slice token, uint32_t scopes) MUST_USE;
/* Adds what the text of a token file says; file is its name for problems. Pure. Returns how many
 * problems it added. */
unsigned auth_parse(struct auth *auth, const char *file, struct slice text,
                    struct config_problems *problems);
/* Makes the set that a configuration asks for, empty when auth is off: its file, and the token of
 * the environment with every scope. Reads the file. 0, or -EINVAL with every problem listed; then
 * there is no set. */
int auth_load(struct auth *auth, const struct config *config,
              struct config_problems *problems) MUST_USE;

/* Judges the value of an Authorization field (bytes 0: absent). Pure. */
enum auth_verdict auth_check(const struct auth *auth, struct slice authorization,
                             enum auth_scope scope);
/* The text of a refusal; static. */
const char *auth_detail(enum auth_verdict verdict, enum auth_scope scope);

#endif
