/* What the agent's state files say about instances; see instance.h. */

#include "client/instance.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/files.h"
#include "client/json.h"
#include "text.h"

#define STATE_FILE_MAX (64 << 10)
#define STATE_VERSION 1

bool is_instance_name(const char *name)
{
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");
    return length && !name[length] && length <= NAME_LENGTH_MAX && name[0] != '-' && name[length - 1] != '-';
}

static void take_text(const struct json *document, const struct json_node *object, const char *key, char *text,
                      size_t size)
{
    json_string(document, json_member(document, object, key), text, size);
    clean_text(text, strlen(text), "");
}

static double take_number(const struct json *document, const struct json_node *object, const char *key)
{
    double value;
    return json_number(document, json_member(document, object, key), &value) ? value : -1;
}

static int take_state(struct instance *instance, const char *text, size_t length)
{
    static struct json document;
    if (!json_parse(&document, text, length))
        return -EPROTO;
    const struct json_node *root = &document.nodes[0];
    if (take_number(&document, root, "version") != STATE_VERSION)
        return -EPROTO;
    take_text(&document, root, "tenant", instance->tenant, sizeof instance->tenant);
    take_text(&document, root, "status", instance->status, sizeof instance->status);
    take_text(&document, root, "health", instance->health, sizeof instance->health);
    take_text(&document, root, "container", instance->container, sizeof instance->container);
    take_text(&document, root, "reason", instance->reason, sizeof instance->reason);
    instance->gate_ms = take_number(&document, root, "gate_ms");
    double restarts = take_number(&document, root, "restarts");
    instance->restarts = restarts >= 0 && restarts < 1e9 ? (long)restarts : 0;
    instance->since = take_number(&document, root, "opened_at");
    if (strcmp(instance->status, "open"))
        instance->since = take_number(&document, json_member(&document, root, "last_exit"), "at");
    return instance->status[0] ? 0 : -EPROTO;
}

int instance_read(struct instance *instance, const char *run_directory, const char *name)
{
    static char text[STATE_FILE_MAX];
    char path[PATH_MAX];
    *instance = (struct instance){.gate_ms = -1, .since = -1};
    snprintf(instance->name, sizeof instance->name, "%s", name);
    if (snprintf(path, sizeof path, "%s/state/%s.json", run_directory, name) >= (int)sizeof path)
        return -ENAMETOOLONG;
    ssize_t length = read_file(path, text, sizeof text);
    return length < 0 ? (int)length : take_state(instance, text, (size_t)length);
}

static int by_name(const void *one, const void *other)
{
    return strcmp(((const struct instance *)one)->name, ((const struct instance *)other)->name);
}

/* The instance's name, where a file's name is that of a state file. */
static bool name_of(const char *file, char name[NAME_LENGTH_MAX + 1])
{
    size_t length = strlen(file);
    if (length <= 5 || length > NAME_LENGTH_MAX + 5 || strcmp(file + length - 5, ".json"))
        return false;
    memcpy(name, file, length - 5);
    name[length - 5] = 0;
    return is_instance_name(name);
}

/* Makes room for one more, doubling. */
static int grow(struct instance **instances, size_t count)
{
    if (count & (count - 1))
        return 0;
    struct instance *larger = reallocarray(*instances, count ? 2 * count : 1, sizeof **instances);
    if (!larger)
        return -ENOMEM;
    *instances = larger;
    return 0;
}

int instance_read_all(struct instance **instances, size_t *count, const char *run_directory, struct failure *failure)
{
    char path[PATH_MAX], name[NAME_LENGTH_MAX + 1];
    *instances = NULL;
    *count = 0;
    if (snprintf(path, sizeof path, "%s/state", run_directory) >= (int)sizeof path)
        return fail(failure, ENAMETOOLONG, "%s", run_directory);
    DIR *directory = opendir(path);
    if (!directory)
        return fail(failure, errno, "%s%s", path, errno == EACCES ? " (wsh is for root)" : "");
    int result = 0;
    for (struct dirent *entry; !result && (entry = readdir(directory));)
        if (name_of(entry->d_name, name) && !(result = grow(instances, *count)) &&
            instance_read(&(*instances)[*count], run_directory, name) != -ENOENT)
            ++*count;
    closedir(directory);
    if (result < 0)
        return fail(failure, -result, "%s", path);
    if (*count)
        qsort(*instances, *count, sizeof **instances, by_name);
    return 0;
}

/* There is no instance of that name: say which there are. */
static int explain_absence(const char *run_directory, const char *name, struct failure *failure)
{
    struct instance *instances;
    char list[FAILURE_TEXT / 2] = "";
    size_t count, used = 0;
    int result = instance_read_all(&instances, &count, run_directory, failure);
    for (size_t i = 0; i < count && used < sizeof list - NAME_LENGTH_MAX - 8; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", instances[i].name);
    if (count && used >= sizeof list - NAME_LENGTH_MAX - 8)
        snprintf(list + used, sizeof list - used, ", …");
    free(instances);
    if (result == -ENOENT)
        return fail(failure, 0, "%s: there is no such instance: the agent has none here (%s)", name, run_directory);
    if (result < 0)
        return result;
    return fail(failure, 0, "%s: there is no such instance; there %s: %s", name, count == 1 ? "is" : "are",
                count ? list : "none");
}

int instance_explain(const char *run_directory, const char *name, int error, struct failure *failure)
{
    struct instance instance;
    if (error == EACCES || error == EPERM)
        return fail(failure, 0, "%s: only root may connect to an instance", name);
    int result = instance_read(&instance, run_directory, name);
    if (result == -EACCES || result == -EPERM)
        return fail(failure, 0, "%s: only root may connect to an instance", name);
    if (result == -ENOENT)
        return explain_absence(run_directory, name, failure);
    if (result < 0)
        return fail(failure, error, "%s: its control socket does not answer, and its state file cannot be read", name);
    const char *separator = instance.reason[0] ? ": " : "";
    if (!strcmp(instance.status, "waiting") || !strcmp(instance.status, "refused"))
        return fail(failure, 0, "%s: its gate is closed (%s)%s%s", name, instance.status, separator, instance.reason);
    if (strcmp(instance.status, "open"))
        return fail(failure, 0, "%s: it does not run (%s)%s%s", name, instance.status, separator, instance.reason);
    return fail(failure, error, "%s: its PID 1 does not answer; wsh --runtime %s goes through the container runtime",
                name, name);
}
