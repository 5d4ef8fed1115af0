// Everything that user mode has in registers, and a function that holds it: for a while in user mode, or across a system call.
#pragma once

#define IMAGE_RAX 0
#define IMAGE_RBX 8
#define IMAGE_RCX 16
#define IMAGE_RDX 24
#define IMAGE_RSI 32
#define IMAGE_RDI 40
#define IMAGE_RBP 48
#define IMAGE_R8 56
#define IMAGE_R9 64
#define IMAGE_R10 72
#define IMAGE_R11 80
#define IMAGE_R12 88
#define IMAGE_R13 96
#define IMAGE_R14 104
#define IMAGE_R15 112
#define IMAGE_FLAGS 120
#define IMAGE_RED_ZONE 128
#define IMAGE_FS 256
#define IMAGE_GS 264
#define IMAGE_SELECTORS 272
#define IMAGE_MASKS 288
#define IMAGE_FX 384
#define IMAGE_VECTORS 896
#define IMAGE_SIZE 2944

#define HOLD_SPIN 0
#define HOLD_SYSCALL 1

#define VECTORS_SSE 0
#define VECTORS_AVX 1
#define VECTORS_AVX512 2

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct check;

struct image {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t flags;
    uint64_t red_zone[16];
    uint64_t fs, gs; // what the words at fs:0 and gs:0 are
    uint16_t selectors[6];
    uint16_t padding[2];
    uint64_t masks[8]; // k0 to k7
    uint64_t padding2[4];
    _Alignas(16) uint8_t fx[512]; // as FXSAVE has it: x87, MXCSR, XMM
    uint8_t vectors[32][64];      // as much of each as the CPU has
} __attribute__((aligned(64)));

_Static_assert(offsetof(struct image, r15) == IMAGE_R15, "");
_Static_assert(offsetof(struct image, flags) == IMAGE_FLAGS, "");
_Static_assert(offsetof(struct image, red_zone) == IMAGE_RED_ZONE, "");
_Static_assert(offsetof(struct image, fs) == IMAGE_FS, "");
_Static_assert(offsetof(struct image, selectors) == IMAGE_SELECTORS, "");
_Static_assert(offsetof(struct image, masks) == IMAGE_MASKS, "");
_Static_assert(offsetof(struct image, fx) == IMAGE_FX, "");
_Static_assert(offsetof(struct image, vectors) == IMAGE_VECTORS, "");
_Static_assert(sizeof(struct image) == (IMAGE_SIZE + 63) / 64 * 64, "");

// Loads `in`, counts rcx down to 0 (HOLD_SPIN) or issues a system call (HOLD_SYSCALL), and stores what is there then into `out`.
// The red zone lies below the stack pointer all the while.
void hold(const struct image *in, struct image *out, uint64_t how, uint64_t vectors);

// A thread's images, and the system calls it issues with all registers held.
struct holder {
    struct image in, out;
    uint64_t random;
    uint64_t gs_word; // where gs points to
    bool alignment_check;
};

// Prepares the calling thread. With `alignment_check` the flag AC is held too: not for threads that have signal handlers.
void holder_init(struct holder *holder, bool alignment_check);

// Spins in user mode, with all registers held and checked.
void hold_spin(struct holder *holder, struct check *check, uint64_t turns);

// Issues a system call, with all registers that it must leave alone held and checked.
// Returns what it returned: a negated errno for an error.
long hold_syscall(struct holder *holder, struct check *check, long number, const long arguments[6]);

uint64_t next_random(uint64_t *state);
const char *vectors_name(void);
#endif
