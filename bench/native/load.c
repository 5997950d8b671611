/* A load client: `load json|sse|sio PORT CONNECTIONS WARM_S SECONDS BODY_FILE TOKENS_FILE PATH`.
 *
 * json: keep-alive requests, each connection one after the other. sse: the same with streams, whose events it counts.
 * sio: Engine.IO 4 directly on a WebSocket; each connection has one `inference_stream` after the other, BODY_FILE is its
 * argument. Connection i carries the i-th line of TOKENS_FILE as its JWT, in turn. Prints "measuring" when the warm-up
 * is over, and at the end one line of JSON: answers, chunks and errors of the measured time, and the 50th and 99th
 * percentile in microseconds of whole answers, first tokens and token delays (arrival less the "@<ns>" of its text). */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define INPUT 65536
#define TOKENS 256
#define SAMPLES (1u << 21)

enum mode { JSON, SSE, SIO };
enum part { HEAD, SIZE, DATA, DATA_END, TRAILER, FRAMES };

typedef struct {
    int fd, number, got_first;
    enum part part;
    size_t left, used, line_used;
    uint64_t began;
    char input[INPUT], line[4096];
} Connection;

typedef struct { uint32_t *values, count; } Samples;

static enum mode mode;
static int port, poll_fd, measuring, token_count;
static char *body, *path, *tokens[TOKENS];
static uint64_t answers, chunks, errors;
static Samples whole, first, delay;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void note(Samples *samples, uint64_t ns) {
    if (measuring && samples->count < SAMPLES) samples->values[samples->count++] = (uint32_t)(ns / 1000);
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static uint32_t percentile(Samples *samples, double share) {
    return samples->count ? samples->values[(uint32_t)(share * (samples->count - 1))] : 0;
}

static int give(Connection *c, const char *data, size_t size) {
    return send(c->fd, data, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static void give_text(Connection *c, const char *text) { /* a masked frame, the mask all zero (RFC 6455 5.3) */
    char frame[16384];
    size_t size = strlen(text), head = size < 126 ? 2 : 4;
    frame[0] = (char)0x81;
    frame[1] = (char)(0x80 | (size < 126 ? size : 126));
    if (head == 4) { frame[2] = (char)(size >> 8); frame[3] = (char)size; }
    memset(frame + head, 0, 4);
    memcpy(frame + head + 4, text, size);
    give(c, frame, head + 4 + size);
}

static void ask(Connection *c) {
    static char request[16384];
    const char *token = tokens[c->number % token_count];
    c->began = now_ns();
    c->got_first = 0;
    if (mode == SIO) {
        snprintf(request, sizeof request, "42/ws/inference,[\"inference_stream\",%s]", body);
        give_text(c, request);
        return;
    }
    int size = snprintf(request, sizeof request,
        "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n%s", path, token, strlen(body), body);
    c->part = HEAD;
    give(c, request, (size_t)size);
}

static void open_one(Connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int yes = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    c->used = c->line_used = 0;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) { perror("connect"); exit(1); }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &event);
    if (mode != SIO) { ask(c); return; }
    static const char upgrade[] =
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    c->part = HEAD;
    give(c, upgrade, sizeof upgrade - 1);
}

static void fail(Connection *c) {
    errors++;
    close(c->fd);
    if (errors > 1000) { fprintf(stderr, "too many errors\n"); exit(1); }
    open_one(c);
}

static void answered(Connection *c) {
    note(&whole, now_ns() - c->began);
    answers += (uint64_t)measuring;
    ask(c);
}

static void token_came(Connection *c, const char *text) {
    uint64_t now = now_ns();
    const char *stamp = strchr(text, '@');
    if (!c->got_first) { c->got_first = 1; note(&first, now - c->began); }
    chunks += (uint64_t)measuring;
    if (stamp) { uint64_t due = strtoull(stamp + 1, NULL, 10); note(&delay, now > due ? now - due : 0); }
}

static void take_line(Connection *c) {
    c->line[c->line_used] = 0;
    c->line_used = 0;
    if (strncmp(c->line, "data: {\"error\"", 14) == 0) errors++;
    else if (strncmp(c->line, "data: {", 7) == 0 && strchr(c->line, '@')) token_came(c, c->line);
}

static void take_body(Connection *c, const char *data, size_t size) {
    if (mode == JSON) return;
    for (size_t i = 0; i < size; i++) {
        if (data[i] == '\n') take_line(c);
        else if (c->line_used < sizeof c->line - 1) c->line[c->line_used++] = data[i];
    }
}

static size_t take_head(Connection *c) {
    c->input[c->used] = 0;
    char *end = strstr(c->input, "\r\n\r\n");
    if (!end) return 0;
    if (mode == SIO) {
        if (strncmp(c->input, "HTTP/1.1 101", 12)) return (size_t)-1;
        c->part = FRAMES;
        return (size_t)(end + 4 - c->input);
    }
    if (strncmp(c->input, "HTTP/1.1 200", 12)) {
        if (!errors) fprintf(stderr, "%.*s\n", (int)c->used, c->input);
        return (size_t)-1;
    }
    char *length = strcasestr(c->input, "\r\ncontent-length:");
    c->part = length && length < end ? TRAILER : SIZE;
    c->left = c->part == TRAILER ? strtoul(length + 17, NULL, 10) : 0;
    return (size_t)(end + 4 - c->input);
}

static void take_packet(Connection *c, char *text) {
    char join[8192];
    if (text[0] == '0') {
        snprintf(join, sizeof join, "40/ws/inference,{\"token\":\"%s\"}", tokens[c->number % token_count]);
        give_text(c, join);
    } else if (text[0] == '2') give_text(c, "3");
    else if (strncmp(text, "40/", 3) == 0) ask(c);
    else if (strstr(text, "[\"inference_chunk\"")) token_came(c, text);
    else if (strstr(text, "[\"inference_complete\"")) answered(c);
    else if (strncmp(text, "44/", 3) == 0 || strstr(text, "error\"")) {
        if (!errors++) fprintf(stderr, "%s\n", text);
    }
}

static size_t take_frame(Connection *c, char *data, size_t size) {
    unsigned char *head = (unsigned char *)data;
    if (size < 2 || (head[1] == 126 && size < 4)) return 0;
    size_t begins = head[1] == 126 ? 4 : 2, length = begins == 4 ? (size_t)head[2] << 8 | head[3] : head[1];
    if (size < begins + length || begins + length >= INPUT) return 0;
    char after = data[begins + length];
    data[begins + length] = 0;
    if ((head[0] & 15) == 1) take_packet(c, data + begins);
    data[begins + length] = after;
    return begins + length;
}

/* Takes the next part of an answer; how many bytes it was, 0 for "more is needed", -1 for a failure. */
static size_t take(Connection *c, char *data, size_t size) {
    size_t n;
    char *end;
    switch (c->part) {
    case HEAD: return take_head(c);
    case FRAMES: return take_frame(c, data, size);
    case TRAILER: /* a body of known length */
        n = size < c->left ? size : c->left;
        c->left -= n;
        if (!c->left) answered(c);
        return n;
    case SIZE:
        if (!(end = memchr(data, '\n', size))) return 0;
        c->left = strtoul(data, NULL, 16);
        c->part = c->left ? DATA : DATA_END;
        if (!c->left) c->left = 1; /* the last chunk: its empty line ends the answer */
        else c->left <<= 1;
        return (size_t)(end + 1 - data);
    case DATA:
        n = size < c->left >> 1 ? size : c->left >> 1;
        take_body(c, data, n);
        c->left -= n << 1;
        if (!c->left) c->part = DATA_END;
        return n;
    case DATA_END:
        if (size < 2) return 0;
        c->part = SIZE;
        if (c->left) { c->left = 0; answered(c); }
        return 2;
    }
    return (size_t)-1;
}

static void read_from(Connection *c) {
    ssize_t got = recv(c->fd, c->input + c->used, INPUT - 1 - c->used, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) { fail(c); return; }
    c->used += (size_t)got;
    size_t at = 0, n = 1;
    while (at < c->used && n) {
        n = take(c, c->input + at, c->used - at);
        if (n == (size_t)-1) { fail(c); return; }
        at += n;
    }
    memmove(c->input, c->input + at, c->used -= at);
}

static char *whole_file(const char *name) {
    FILE *file = fopen(name, "r");
    char *text = calloc(1, 1 << 20);
    if (!file || !fread(text, 1, (1 << 20) - 1, file)) { perror(name); exit(1); }
    fclose(file);
    return text;
}

static void run_until(uint64_t end) {
    struct epoll_event events[256];
    while (now_ns() < end) {
        int n = epoll_wait(poll_fd, events, 256, 20);
        for (int i = 0; i < n; i++) read_from(events[i].data.ptr);
    }
}

static void prepare(char **arguments) {
    mode = strcmp(arguments[1], "json") == 0 ? JSON : strcmp(arguments[1], "sse") == 0 ? SSE : SIO;
    port = atoi(arguments[2]);
    body = whole_file(arguments[6]);
    path = arguments[8];
    char *token = strtok(whole_file(arguments[7]), "\n");
    for (; token && token_count < TOKENS; token = strtok(NULL, "\n")) tokens[token_count++] = token;
    Samples *all[] = {&whole, &first, &delay};
    for (int i = 0; i < 3; i++) all[i]->values = malloc(SAMPLES * sizeof(uint32_t));
    poll_fd = epoll_create1(0);
}

static void print_samples(const char *name, Samples *samples) {
    qsort(samples->values, samples->count, sizeof(uint32_t), by_value);
    printf(", \"%s_p50\": %u, \"%s_p99\": %u", name, percentile(samples, .5), name, percentile(samples, .99));
}

int main(int count, char **arguments) {
    if (count != 9) { fprintf(stderr, "see the head of load.c\n"); return 2; }
    prepare(arguments);
    int connections = atoi(arguments[3]);
    double warm_s = atof(arguments[4]), seconds = atof(arguments[5]);
    uint64_t began = now_ns();
    for (int i = 0; i < connections; i++) { /* spread over the first half of the warm-up, so that not all end at once */
        Connection *c = calloc(1, sizeof *c);
        c->number = i;
        open_one(c);
        run_until(began + (uint64_t)(warm_s * .5e9 * (i + 1) / connections));
    }
    run_until(began + (uint64_t)(warm_s * 1e9));
    puts("measuring");
    fflush(stdout);
    measuring = 1;
    began = now_ns();
    run_until(began + (uint64_t)(seconds * 1e9));
    measuring = 0;
    printf("{\"answers\": %llu, \"chunks\": %llu, \"errors\": %llu", (unsigned long long)answers,
           (unsigned long long)chunks, (unsigned long long)errors);
    print_samples("answer", &whole);
    print_samples("first", &first);
    print_samples("delay", &delay);
    puts("}");
    return 0;
}
