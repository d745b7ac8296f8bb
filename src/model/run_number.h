/*
 * run_number: what pydantic's lax mode takes for an integer or a boolean, exact. Private to run.c.
 * Pure.
 *
 * An integer is a JSON number without a fraction (3, 3.0, 3e2), true or false (1, 0), or a string
 * of digits with a sign, white space around it, single underscores between digits and zeros after
 * a point (" +1_000.0 "). pydantic goes through a double where there is a point or an exponent;
 * here the digits themselves decide, so 9007199254740993.0 keeps its last digit. A whole number
 * below the 64-bit range reads as INT64_MIN: that it is negative is all that anybody asks of it.
 */
#ifndef MODEL_RUN_NUMBER_H
#define MODEL_RUN_NUMBER_H

#include "core/base.h"

enum run_number {
    RUN_NUMBER_GOOD = 0,
    RUN_NUMBER_NONE,     /* no such number in the string */
    RUN_NUMBER_FRACTION, /* it is not whole */
    RUN_NUMBER_SIZE,     /* whole, and above INT64_MAX */
    RUN_NUMBER_INFINITE, /* with a point or an exponent, and no double can hold it */
};

/* number passed json_scan. */
enum run_number run_number_of_number(struct slice number, int64_t *value);
/* text has its escapes undone. */
enum run_number run_number_of_text(struct slice text, int64_t *value);
/* "true", "off", "Y" ...: 1 or 0; -1 for any other text. */
int run_number_of_word(struct slice text);

#endif
