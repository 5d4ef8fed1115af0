#define _GNU_SOURCE
#include "hold.h"

#include <asm/prctl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checks.h"

enum {
    // CF, PF, AF, ZF, SF, DF, OF and ID: what user mode can set without harm; bit 1 is always set, and so is IF.
    free_flags = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x400 | 0x800 | 0x200000,
    fixed_flags = 0x2 | 0x200,
    alignment_check_flag = 0x40000,

    fx_control = 0,
    fx_status = 2,
    fx_tags = 4,
    fx_mxcsr = 24,
    fx_stack = 32,
    fx_xmm = 160,
};

uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t vectors(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
        return VECTORS_AVX512;
    return __builtin_cpu_supports("avx") ? VECTORS_AVX : VECTORS_SSE;
}

const char *vectors_name(void)
{
    static const char *const names[] = { "XMM", "YMM", "ZMM" };
    return names[vectors()];
}

void holder_init(struct holder *holder, bool alignment_check)
{
    memset(holder, 0, sizeof *holder);
    holder->random = (uint64_t)gettid() * 0x9E3779B97F4A7C15u | 1;
    holder->gs_word = next_random(&holder->random);
    holder->alignment_check = alignment_check;
    if (syscall(SYS_arch_prctl, ARCH_SET_GS, &holder->gs_word))
        die("arch_prctl(ARCH_SET_GS)");
}

static void fill(uint64_t *state, void *place, size_t size)
{
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = next_random(state);
        memcpy((char *)place + i, &word, 8);
    }
}

static void fill_x87(struct holder *holder)
{
    uint8_t *fx = holder->in.fx;
    // Exceptions masked, odd rounding and precision, all of the stack in use, sticky bits set.
    uint16_t control = 0x007F | (uint16_t)(next_random(&holder->random) & 0x0C00) | 0x0300;
    uint16_t status = 0x4720 & ~0x3800;
    uint32_t mxcsr = 0x1F80 | 0x3F | (uint32_t)(next_random(&holder->random) & 0xE000);
    memset(fx, 0, fx_stack);
    memcpy(fx + fx_control, &control, 2);
    memcpy(fx + fx_status, &status, 2);
    fx[fx_tags] = 0xFF;
    memcpy(fx + fx_mxcsr, &mxcsr, 4);
    for (int i = 0; i < 8; i++) {
        uint64_t significand = next_random(&holder->random) | 1ull << 63;
        uint16_t exponent = (uint16_t)(0x3FFF + i);
        memcpy(fx + fx_stack + 16 * i, &significand, 8);
        memcpy(fx + fx_stack + 16 * i + 8, &exponent, 2);
    }
}

static void fill_vectors(struct holder *holder)
{
    static const size_t used[] = { [VECTORS_SSE] = 16, [VECTORS_AVX] = 32, [VECTORS_AVX512] = 64 };
    int count = vectors() == VECTORS_AVX512 ? 32 : 16;
    for (int i = 0; i < count; i++)
        fill(&holder->random, holder->in.vectors[i], used[vectors()]);
}

static void fill_image(struct holder *holder)
{
    struct image *in = &holder->in;
    fill(&holder->random, in, IMAGE_RED_ZONE + sizeof in->red_zone);
    in->flags = (next_random(&holder->random) & free_flags) | fixed_flags | (holder->alignment_check ? alignment_check_flag : 0);
    in->gs = holder->gs_word;
    __asm__("mov %%fs:0, %0" : "=r"(in->fs));
    __asm__("mov %%cs, %0" : "=m"(in->selectors[0]));
    __asm__("mov %%ss, %0" : "=m"(in->selectors[1]));
    __asm__("mov %%ds, %0" : "=m"(in->selectors[2]));
    __asm__("mov %%es, %0" : "=m"(in->selectors[3]));
    __asm__("mov %%fs, %0" : "=m"(in->selectors[4]));
    __asm__("mov %%gs, %0" : "=m"(in->selectors[5]));
    fill(&holder->random, in->masks, sizeof in->masks);
    fill_vectors(holder);
    fill_x87(holder);
    for (int i = 0; i < 16; i++)
        memcpy(in->fx + fx_xmm + 16 * i, in->vectors[i], 16);
}

// Where a comparison takes place: across a system call, or in user mode if there is none.
struct place {
    struct check *check;
    long number;
    bool in_system_call;
};

static void report(const struct place *place, const char *what, int index, const uint8_t *was, const uint8_t *is, size_t size)
{
    char where[40] = "in user mode", name[40], old[129], new[129];
    if (place->in_system_call)
        snprintf(where, sizeof where, "across system call %ld", place->number);
    snprintf(name, sizeof name, index < 0 ? "%s" : "%s %d", what, index);
    for (size_t i = 0; i < size; i++) { // as numbers are written, highest byte first
        snprintf(old + 2 * i, 3, "%02x", was[size - 1 - i]);
        snprintf(new + 2 * i, 3, "%02x", is[size - 1 - i]);
    }
    deviation(place->check, "%s: %s was %s, is %s", where, name, old, new);
}

// Nothing is formatted where nothing deviates: dozens of threads compare all the time, on a host that may be slow.
static void expect(const struct place *place, const char *what, int index, const void *was, const void *is, size_t size)
{
    if (memcmp(was, is, size))
        report(place, what, index, was, is, size);
}

// Compares what has to be as it was. A system call may change rax, rcx and r11; a spin counts rcx.
static void compare(const struct holder *holder, const struct place *place)
{
    enum { no_index = -1 };
    static const char *const general[] = {
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rflags",
    };
    const struct image *in = &holder->in, *out = &holder->out;
    for (size_t i = 0; i < 16; i++) {
        bool changes = i == IMAGE_RCX / 8 || (place->in_system_call && (i == IMAGE_RAX / 8 || i == IMAGE_R11 / 8));
        if (!changes)
            expect(place, general[i], no_index, &in->rax + i, &out->rax + i, 8);
    }
    if (!place->in_system_call && out->rcx)
        deviation(place->check, "in user mode: the loop ended with rcx %#lx", out->rcx);
    for (int i = 0; i < 16; i++)
        expect(place, "red zone, word", i, &in->red_zone[i], &out->red_zone[i], 8);
    expect(place, "fs:0", no_index, &in->fs, &out->fs, 8);
    expect(place, "gs:0", no_index, &in->gs, &out->gs, 8);
    expect(place, "segment registers", no_index, in->selectors, out->selectors, sizeof in->selectors);
    expect(place, "x87 control, status and tags", no_index, in->fx, out->fx, 5);
    expect(place, "MXCSR", no_index, in->fx + fx_mxcsr, out->fx + fx_mxcsr, 4);
    for (int i = 0; i < 8; i++)
        expect(place, "st", i, in->fx + fx_stack + 16 * i, out->fx + fx_stack + 16 * i, 10);
    for (int i = 0; i < 16; i++)
        expect(place, "xmm", i, in->fx + fx_xmm + 16 * i, out->fx + fx_xmm + 16 * i, 16);
    int count = vectors() == VECTORS_AVX512 ? 32 : vectors() == VECTORS_AVX ? 16 : 0;
    for (int i = 0; i < count; i++)
        expect(place, count == 32 ? "zmm" : "ymm", i, in->vectors[i], out->vectors[i], count == 32 ? 64 : 32);
    if (count == 32)
        expect(place, "k0 to k7", no_index, in->masks, out->masks, sizeof in->masks);
}

void hold_spin(struct holder *holder, struct check *check, uint64_t turns)
{
    const struct place place = { .check = check };
    fill_image(holder);
    holder->in.rcx = turns;
    hold(&holder->in, &holder->out, HOLD_SPIN, vectors());
    compare(holder, &place);
}

long hold_syscall(struct holder *holder, struct check *check, long number, const long arguments[6])
{
    const struct place place = { check, number, true };
    struct image *in = &holder->in;
    fill_image(holder);
    in->rax = (uint64_t)number;
    in->rdi = (uint64_t)arguments[0];
    in->rsi = (uint64_t)arguments[1];
    in->rdx = (uint64_t)arguments[2];
    in->r10 = (uint64_t)arguments[3];
    in->r8 = (uint64_t)arguments[4];
    in->r9 = (uint64_t)arguments[5];
    hold(in, &holder->out, HOLD_SYSCALL, vectors());
    compare(holder, &place);
    return (long)holder->out.rax;
}
