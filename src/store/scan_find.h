/*
 * scan_find: the kernels behind scan_find (scan.h): the first occurrence of a few bytes in many.
 * Named so that tests and the benchmark can compare them; everybody else calls scan_find. Pure.
 */
#ifndef STORE_SCAN_FIND_H
#define STORE_SCAN_FIND_H

#include "core/base.h"

enum scan_find_kernel {
    SCAN_FIND_SCALAR = 0,
    SCAN_FIND_AVX2,
};

/* Can this machine run it? */
bool scan_find_has(enum scan_find_kernel kernel);
/* The one scan_find takes. */
enum scan_find_kernel scan_find_best(void);
/* As scan_find, with a kernel that this machine has. */
size_t scan_find_by(enum scan_find_kernel kernel, struct slice hay, size_t from,
                    struct slice needle);

#endif
