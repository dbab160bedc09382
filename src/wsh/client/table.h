/* The list of instances. */

#ifndef WSH_CLIENT_TABLE_H
#define WSH_CLIENT_TABLE_H

#include "common.h"

/* Prints one line for each instance of this host. */
int table_print(const char *run_directory, struct failure *failure);

#endif
