// hold(in = rdi, out = rsi, how = rdx, vectors = rcx)
#include "hold.h"

// The frame: where out is, how, vectors, and the caller's MXCSR and x87 control word.
#define FRAME_OUT 0
#define FRAME_HOW 8
#define FRAME_VECTORS 16
#define FRAME_MXCSR 32
#define FRAME_CONTROL 36
#define FRAME_SIZE 96

// Every general register but rsp; rdi last, since it points to the image.
.macro load_general
    mov IMAGE_RAX(%rdi), %rax
    mov IMAGE_RBX(%rdi), %rbx
    mov IMAGE_RCX(%rdi), %rcx
    mov IMAGE_RDX(%rdi), %rdx
    mov IMAGE_RSI(%rdi), %rsi
    mov IMAGE_RBP(%rdi), %rbp
    .irp n, 8, 9, 10, 11, 12, 13, 14, 15
    mov IMAGE_R8 + 8 * (\n - 8)(%rdi), %r\n
    .endr
    mov IMAGE_RDI(%rdi), %rdi
.endm

.macro store_general // rdi is the image, its own value is in the frame
    mov %rax, IMAGE_RAX(%rdi)
    mov %rbx, IMAGE_RBX(%rdi)
    mov %rcx, IMAGE_RCX(%rdi)
    mov %rdx, IMAGE_RDX(%rdi)
    mov %rsi, IMAGE_RSI(%rdi)
    mov %rbp, IMAGE_RBP(%rdi)
    .irp n, 8, 9, 10, 11, 12, 13, 14, 15
    mov %r\n, IMAGE_R8 + 8 * (\n - 8)(%rdi)
    .endr
    mov FRAME_OUT(%rsp), %rax
    mov %rax, IMAGE_RDI(%rdi)
.endm

    .text
    .globl hold
    .type hold, @function
hold:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    pushfq
    sub $FRAME_SIZE, %rsp
    mov %rsi, FRAME_OUT(%rsp)
    mov %rdx, FRAME_HOW(%rsp)
    mov %rcx, FRAME_VECTORS(%rsp)
    stmxcsr FRAME_MXCSR(%rsp)
    fnstcw FRAME_CONTROL(%rsp)

    fxrstor64 IMAGE_FX(%rdi)
    cmp $VECTORS_AVX, %rcx
    jb loaded
    ja load_avx512
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vmovdqu IMAGE_VECTORS + 64 * \n(%rdi), %ymm\n
    .endr
    jmp loaded
load_avx512:
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    vmovdqu64 IMAGE_VECTORS + 64 * \n(%rdi), %zmm\n
    .endr
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    kmovq IMAGE_MASKS + 8 * \n(%rdi), %k\n
    .endr
loaded:
    push IMAGE_FLAGS(%rdi)
    popfq
    // From here on nothing changes the flags, and nothing is pushed: the red zone is in use.
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    mov IMAGE_RED_ZONE + 8 * \n(%rdi), %rax
    mov %rax, -128 + 8 * \n(%rsp)
    .endr
    mov FRAME_HOW(%rsp), %rcx
    jrcxz spin
    jmp call_system
spin:
    jmp load_and_spin

call_system:
    load_general
    syscall
    jmp collect

load_and_spin:
    load_general
1:
    lea -1(%rcx), %rcx
    jrcxz collect
    jmp 1b

collect:
    xchg %rdi, FRAME_OUT(%rsp)
    store_general
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    mov -128 + 8 * \n(%rsp), %rax
    mov %rax, IMAGE_RED_ZONE + 8 * \n(%rdi)
    .endr
    pushfq
    pop IMAGE_FLAGS(%rdi)
    mov %fs:0, %rax
    mov %rax, IMAGE_FS(%rdi)
    mov %gs:0, %rax
    mov %rax, IMAGE_GS(%rdi)
    mov %cs, IMAGE_SELECTORS + 0(%rdi)
    mov %ss, IMAGE_SELECTORS + 2(%rdi)
    mov %ds, IMAGE_SELECTORS + 4(%rdi)
    mov %es, IMAGE_SELECTORS + 6(%rdi)
    mov %fs, IMAGE_SELECTORS + 8(%rdi)
    mov %gs, IMAGE_SELECTORS + 10(%rdi)
    fxsave64 IMAGE_FX(%rdi)
    mov FRAME_VECTORS(%rsp), %rcx
    cmp $VECTORS_AVX, %rcx
    jb stored
    ja store_avx512
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vmovdqu %ymm\n, IMAGE_VECTORS + 64 * \n(%rdi)
    .endr
    vzeroupper
    jmp stored
store_avx512:
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    vmovdqu64 %zmm\n, IMAGE_VECTORS + 64 * \n(%rdi)
    .endr
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    kmovq %k\n, IMAGE_MASKS + 8 * \n(%rdi)
    .endr
    vzeroupper
stored:
    fninit
    fldcw FRAME_CONTROL(%rsp)
    ldmxcsr FRAME_MXCSR(%rsp)
    add $FRAME_SIZE, %rsp
    popfq
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
    .size hold, . - hold

    .section .note.GNU-stack, "", @progbits
