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
    fill(&holder->random, in->vectors, sizeof in->vectors);
    fill_x87(holder);
    for (int i = 0; i < 16; i++)
        memcpy(in->fx + fx_xmm + 16 * i, in->vectors[i], 16);
}

static void expect(struct check *check, const char *where, const char *what, const void *was, const void *is, size_t size)
{
    char old[129], new[129];
    if (!memcmp(was, is, size))
        return;
    for (size_t i = 0; i < size; i++) { // as numbers are written, highest byte first
        snprintf(old + 2 * i, 3, "%02x", ((const uint8_t *)was)[size - 1 - i]);
        snprintf(new + 2 * i, 3, "%02x", ((const uint8_t *)is)[size - 1 - i]);
    }
    deviation(check, "%s: %s was %s, is %s", where, what, old, new);
}

// Compares what has to be as it was. A system call may change rax, rcx and r11; a spin counts rcx.
static void compare(struct holder *holder, struct check *check, uint64_t how, const char *where)
{
    static const char *const general[] = {
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rflags",
    };
    const struct image *in = &holder->in, *out = &holder->out;
    char name[20];
    for (size_t i = 0; i < 16; i++) {
        bool changes = i == IMAGE_RCX / 8 || (how == HOLD_SYSCALL && (i == IMAGE_RAX / 8 || i == IMAGE_R11 / 8));
        if (!changes)
            expect(check, where, general[i], &in->rax + i, &out->rax + i, 8);
    }
    if (how == HOLD_SPIN && out->rcx)
        deviation(check, "%s: the loop ended with rcx %#lx", where, out->rcx);
    for (int i = 0; i < 16; i++) {
        snprintf(name, sizeof name, "red zone -%d", 128 - 8 * i);
        expect(check, where, name, &in->red_zone[i], &out->red_zone[i], 8);
    }
    expect(check, where, "fs:0", &in->fs, &out->fs, 8);
    expect(check, where, "gs:0", &in->gs, &out->gs, 8);
    expect(check, where, "segment registers", in->selectors, out->selectors, sizeof in->selectors);
    expect(check, where, "x87 control, status and tags", in->fx, out->fx, 5);
    expect(check, where, "MXCSR", in->fx + fx_mxcsr, out->fx + fx_mxcsr, 4);
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "st(%d)", i);
        expect(check, where, name, in->fx + fx_stack + 16 * i, out->fx + fx_stack + 16 * i, 10);
    }
    for (int i = 0; i < 16; i++) {
        snprintf(name, sizeof name, "xmm%d", i);
        expect(check, where, name, in->fx + fx_xmm + 16 * i, out->fx + fx_xmm + 16 * i, 16);
    }
    int count = vectors() == VECTORS_AVX512 ? 32 : vectors() == VECTORS_AVX ? 16 : 0;
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%s%d", count == 32 ? "zmm" : "ymm", i);
        expect(check, where, name, in->vectors[i], out->vectors[i], count == 32 ? 64 : 32);
    }
    if (count == 32)
        expect(check, where, "k0 to k7", in->masks, out->masks, sizeof in->masks);
}

void hold_spin(struct holder *holder, struct check *check, uint64_t turns)
{
    fill_image(holder);
    holder->in.rcx = turns;
    hold(&holder->in, &holder->out, HOLD_SPIN, vectors());
    compare(holder, check, HOLD_SPIN, "in user mode");
}

long hold_syscall(struct holder *holder, struct check *check, long number, const long arguments[6])
{
    struct image *in = &holder->in;
    char where[40];
    fill_image(holder);
    in->rax = (uint64_t)number;
    in->rdi = (uint64_t)arguments[0];
    in->rsi = (uint64_t)arguments[1];
    in->rdx = (uint64_t)arguments[2];
    in->r10 = (uint64_t)arguments[3];
    in->r8 = (uint64_t)arguments[4];
    in->r9 = (uint64_t)arguments[5];
    hold(in, &holder->out, HOLD_SYSCALL, vectors());
    snprintf(where, sizeof where, "across system call %ld", number);
    compare(holder, check, HOLD_SYSCALL, where);
    return (long)holder->out.rax;
}
