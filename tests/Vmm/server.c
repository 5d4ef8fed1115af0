#define _GNU_SOURCE
#include "server.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vm.h"

enum { REQUEST_SIZE = 4096 };

int open_server(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    unlink(path);
    if (server < 0 || bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 8))
        die(path);
    return server;
}

void say(struct answer *answer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int left = (int)sizeof answer->text - answer->length;
    int length = vsnprintf(answer->text + answer->length, (size_t)left, format, arguments);
    va_end(arguments);
    answer->length += length < left ? length : left - 1;
}

static void copy_until(char *into, size_t size, const char *from, const char *ends)
{
    size_t length = strcspn(from, ends);
    if (length >= size)
        length = size - 1;
    memcpy(into, from, length);
    into[length] = 0;
}

static bool begins(const char *text, const char *with)
{
    return !strncmp(text, with, strlen(with));
}

// Where the value of a key of a JSON object in a body begins; NULL where it has no such key.
static const char *find_value(const char *body, const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *at = strstr(body, quoted);
    return at ? at + strlen(quoted) + strspn(at + strlen(quoted), ": \n\t") : NULL;
}

static bool find_text(const char *body, const char *key, char *into, size_t size)
{
    const char *value = find_value(body, key);
    if (!value || *value != '"')
        return false;
    copy_until(into, size, value + 1, "\"");
    return true;
}

static bool is_true(const char *body, const char *key)
{
    const char *value = find_value(body, key);
    return value && begins(value, "true");
}

void take_directory(struct request *request, const char *directory)
{
    static const char scheme[] = "file://";
    if (begins(directory, scheme))
        directory += sizeof scheme - 1;
    snprintf(request->state, sizeof request->state, "%.180s/state.json", directory);
    snprintf(request->memory, sizeof request->memory, "%.180s/memory-ranges", directory);
}

// Firecracker's (src/firecracker/swagger/firecracker.yaml), cloud-hypervisor's (vmm/src/api/openapi/cloud-hypervisor.yaml), and the same in a word for all.
static struct request understand(const char *text)
{
    struct request request = { 0 };
    char value[200];
    const char *body = strstr(text, "\r\n\r\n");
    body = body ? body + 4 : "";
    if (begins(text, "PUT /actions "))
        request.verb = strstr(body, "InstanceStart") ? BOOT : NOTHING;
    else if (begins(text, "PATCH /vm "))
        request.verb = strstr(body, "\"Paused\"") ? PAUSE : strstr(body, "\"Resumed\"") ? RESUME : NOTHING;
    else if (begins(text, "PUT /snapshot/create ") || begins(text, "PUT /snapshot/load ")) {
        bool loads = begins(text, "PUT /snapshot/load ");
        if (find_text(body, "snapshot_path", request.state, sizeof request.state) &&
            find_text(body, loads ? "backend_path" : "mem_file_path", request.memory, sizeof request.memory))
            request.verb = loads ? RESTORE : SNAPSHOT;
        request.by_realtime = is_true(body, "clock_realtime");
        request.resumes = is_true(body, "resume_vm");
    } else if (begins(text, "PUT /api/v1/vm.boot "))
        request.verb = BOOT;
    else if (begins(text, "PUT /api/v1/vm.pause ") || begins(text, "GET /pause "))
        request.verb = PAUSE;
    else if (begins(text, "PUT /api/v1/vm.resume ") || begins(text, "GET /resume "))
        request.verb = RESUME;
    else if (begins(text, "PUT /api/v1/vm.snapshot ") && find_text(body, "destination_url", value, sizeof value)) {
        request.verb = SNAPSHOT;
        take_directory(&request, value);
    } else if (begins(text, "PUT /api/v1/vm.restore ") && find_text(body, "source_url", value, sizeof value)) {
        request.verb = RESTORE;
        request.resumes = is_true(body, "resume");
        take_directory(&request, value);
    } else if (begins(text, "GET /snapshot?")) {
        request.verb = SNAPSHOT;
        copy_until(value, sizeof value, strchr(text, '?') + 1, " ");
        take_directory(&request, value);
    } else if (begins(text, "GET /log "))
        request.verb = LOG;
    else if (begins(text, "GET /clear "))
        request.verb = CLEAR;
    else if (begins(text, "GET /quit "))
        request.verb = QUIT;
    return request;
}

// The head, and as much of a body as it says that there is.
static void read_request(int client, char *text)
{
    size_t length = 0;
    for (;;) {
        ssize_t count = read(client, text + length, REQUEST_SIZE - 1 - length);
        if (count <= 0)
            break;
        length += (size_t)count;
        text[length] = 0;
        const char *body = strstr(text, "\r\n\r\n"), *size = strcasestr(text, "\r\ncontent-length:");
        unsigned long expected = 0;
        if (size)
            for (const char *digit = size + strlen("\r\ncontent-length:"); *digit == ' ' || (*digit >= '0' && *digit <= '9'); digit++)
                expected = *digit == ' ' ? expected : expected * 10 + (unsigned long)(*digit - '0');
        if (body && strlen(body + 4) >= expected)
            break;
    }
    text[length] = 0;
}

static void send_all(int client, const char *text, size_t length)
{
    while (length > 0) {
        ssize_t count = write(client, text, length);
        if (count <= 0)
            return;
        text += count;
        length -= (size_t)count;
    }
}

void serve(int server, void (*handle)(const struct request *, struct answer *))
{
    static char text[REQUEST_SIZE], head[200];
    static struct answer answer;
    for (;;) {
        int client = accept4(server, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0)
            continue;
        read_request(client, text);
        struct request request = understand(text);
        answer.length = 0;
        if (request.verb == NOTHING)
            answer.length = -1;
        else
            handle(&request, &answer);
        int length = answer.length < 0 ? snprintf(head, sizeof head, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            : answer.length == 0       ? snprintf(head, sizeof head, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                                       : snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", answer.length);
        send_all(client, head, (size_t)length);
        if (answer.length > 0)
            send_all(client, answer.text, (size_t)answer.length);
        close(client);
        if (request.verb == QUIT)
            _exit(0);
    }
}
