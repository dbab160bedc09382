/* The list of instances; see table.h. */

#include "client/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/instance.h"

enum { NAME, TENANT, STATUS, GATE, HEALTH, RESTARTS, SINCE, REASON, COLUMNS };

struct row {
    const char *cells[COLUMNS];
    char gate[32], restarts[24], since[24];
};

/* Characters, as far as a terminal's columns are concerned: bytes that do not continue one. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void write_age(char text[24], double since, double now)
{
    double age = now > since ? now - since : 0;
    if (since < 0 || age > 1e10)
        strcpy(text, "-");
    else if (age < 120)
        snprintf(text, 24, "%.0fs", age);
    else if (age < 120 * 60)
        snprintf(text, 24, "%.0fm", age / 60);
    else if (age < 48 * 3600)
        snprintf(text, 24, "%.0fh", age / 3600);
    else
        snprintf(text, 24, "%.0fd", age / 86400);
}

static const char *or_dash(const char *text)
{
    return text[0] ? text : "-";
}

static void write_row(struct row *row, const struct instance *instance, double now)
{
    strcpy(row->gate, "-");
    if (instance->gate_ms >= 0 && instance->gate_ms < 1e9)
        snprintf(row->gate, sizeof row->gate, "%.1fms", instance->gate_ms);
    snprintf(row->restarts, sizeof row->restarts, "%ld", instance->restarts);
    write_age(row->since, instance->since, now);
    row->cells[NAME] = instance->name;
    row->cells[TENANT] = or_dash(instance->tenant);
    row->cells[STATUS] = instance->status[0] ? instance->status : "unreadable";
    row->cells[GATE] = row->gate;
    row->cells[HEALTH] = or_dash(instance->health);
    row->cells[RESTARTS] = row->restarts;
    row->cells[SINCE] = row->since;
    row->cells[REASON] = instance->reason;
}

static int print_rows(const struct row *rows, size_t count)
{
    int widths[COLUMNS] = {0};
    for (size_t i = 0; i < count; i++)
        for (size_t column = 0; column < COLUMNS; column++) {
            int width = width_of(rows[i].cells[column]);
            if (width > widths[column])
                widths[column] = width;
        }
    for (size_t i = 0; i < count; i++) {
        for (size_t column = 0; column < COLUMNS; column++) {
            const char *cell = rows[i].cells[column];
            bool last = column + 1 == COLUMNS || !rows[i].cells[column + 1][0]; /* only the reason may be empty */
            printf("%s%*s", cell, last ? 0 : widths[column] - width_of(cell) + 2, "");
        }
        putchar('\n');
    }
    return fflush(stdout) ? -errno : 0;
}

int table_print(const char *run_directory, struct failure *failure)
{
    static const struct row head = {
        .cells = {"NAME", "TENANT", "STATUS", "GATE", "HEALTH", "RESTARTS", "SINCE", "REASON"}};
    struct instance *instances;
    size_t count;
    int result = instance_read_all(&instances, &count, run_directory, failure);
    if (result < 0)
        return result;
    struct row *rows = calloc(count + 1, sizeof *rows);
    if (!rows) {
        free(instances);
        return fail(failure, ENOMEM, "ls");
    }
    rows[0] = head;
    for (size_t i = 0; i < count; i++)
        write_row(&rows[i + 1], &instances[i], (double)time(NULL));
    result = print_rows(rows, count + 1);
    free(rows);
    free(instances);
    return result < 0 ? fail(failure, -result, "stdout") : 0;
}
