// The socket of a VMM's API: HTTP, one request a connection.
#pragma once
#include <stdbool.h>

enum verb { NOTHING, BOOT, PAUSE, RESUME, SNAPSHOT, RESTORE, LOG, CLEAR, QUIT };

struct request {
    enum verb verb;
    char state[200], memory[200]; // files
    bool by_realtime;             // kvmclock is to be advanced
    bool resumes;
};

struct answer {
    int length; // of the text; 0 is an empty answer, -1 an error
    char text[60000];
};

void take_directory(struct request *request, const char *directory); // by its path or file:// address, with the files that all but Firecracker have in it
int open_server(const char *path);
void serve(int server, void (*handle)(const struct request *, struct answer *)); // for ever
void say(struct answer *answer, const char *format, ...) __attribute__((format(printf, 2, 3)));
