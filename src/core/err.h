/*
 * err: how functions fail. int results: 0 or a count on success, -errno on failure (the kernel's
 * and liburing's domain), our own codes from -4096 down. Text exists only on cold paths: a last
 * parameter struct err *, filled where it happened (err_set) and wrapped on the way out (err_wrap),
 * outermost context first: "open store ./data: recover segment 42: header checksum does not match".
 */
#ifndef CORE_ERR_H
#define CORE_ERR_H

#include "core/base.h"

enum {
    ERR_CORRUPT = -4096,     /* proven damage: bytes that were durable are not what was written */
    ERR_TORN = -4097,        /* the end of a log after a crash: never acknowledged, to be cut */
    ERR_LIMIT = -4098,       /* a configured limit; the answer names it */
    ERR_VERSION = -4099,     /* written by a newer Sluice */
    ERR_SYNTAX = -4100,      /* the input does not follow its grammar */
    ERR_UNSUPPORTED = -4101, /* understood, not served (OTLP before its dialect lands) */
};

#define ERR_TEXT_BYTES 768

struct err {
    int code; /* the negative result that goes with text; 0 when unset */
    char text[ERR_TEXT_BYTES];
};

/* Sets code and text. Returns code, so that "return err_set(err, -EIO, ...)" reads as one line. err
 * may be NULL. */
int err_set(struct err *err, int code, const char *format, ...) PRINTF_LIKE(3, 4);

/* Puts "context: " in front of the text. Returns err->code (or code where err is NULL). */
int err_wrap(struct err *err, int code, const char *format, ...) PRINTF_LIKE(3, 4);

/* The name of any of our codes or of an errno, e.g. "no space left on device (ENOSPC)". Static
 * storage. */
const char *err_name(int code);

#endif
