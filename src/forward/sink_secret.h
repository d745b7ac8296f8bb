/*
 * sink_secret: what a sink proves itself with, read from files of its own (never from the configuration). Every file must be
 * a regular one that nobody but its owner may read or write. Owned by the transport; wiped when it is closed; never logged,
 * never part of an error's text.
 */
#ifndef FORWARD_SINK_SECRET_H
#define FORWARD_SINK_SECRET_H

#include "core/base.h"
#include "core/config_sinks.h"
#include "core/err.h"

#define SINK_SECRET_BYTES 4096

/* "": not set. Visible ASCII and spaces inside: none can end a header line. */
struct sink_secret {
    char bearer[SINK_SECRET_BYTES];
    char api_key[SINK_SECRET_BYTES];
    char password[SINK_SECRET_BYTES];
    char aws_id[SINK_SECRET_BYTES];
    char aws_secret[SINK_SECRET_BYTES];
    char aws_token[SINK_SECRET_BYTES];
};

/* -EACCES, -ENOENT, ERR_SYNTAX with a text that names sink and file; secret is then unspecified: wipe it. Looks at
 * certificate, key and CA files too, which libcurl reads: readable, and the key nobody else's. */
int sink_secret_read(struct sink_secret *secret, const struct config_sink *sink,
                     struct err *err) MUST_USE;
void sink_secret_wipe(struct sink_secret *secret);

#endif
