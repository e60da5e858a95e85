# Copies between kernel and user memory. A fault that cannot be resolved goes on at the fix-up of the
# range in .ex_table that the instruction lies in: first, end, fix-up, flags.

    .attribute arch, "rv64gc"

    .macro FIXUP first, end, target, flags=0
    .pushsection .ex_table, "a"
    .balign 8
    .dword  \first, \end, \target, \flags
    .popsection
    .endm

    .section .text.uaccess, "ax"

# a0 = to, a1 = from, a2 = bytes; returns the bytes not copied. Words where both are aligned alike, else
# aligned words shifted together. When a fault ends a loop of words, the bytes from the start of its turn
# on are copied one by one, so that the count is exact.
    .globl  copy_user
    .balign 16
copy_user:
    add     a3, a0, a2                  # end of the destination
    or      t0, a0, a1
    andi    t0, t0, 7
    bnez    t0, .Lunaligned
.Laligned:
    sub     t1, a3, a0
    andi    t1, t1, -64
    beqz    t1, .Lwords
    add     t1, t1, a0                  # end of the blocks
.Lblock:
    ld      a4, 0(a1)
    ld      a5, 8(a1)
    ld      a6, 16(a1)
    ld      a7, 24(a1)
    ld      t3, 32(a1)
    ld      t4, 40(a1)
    ld      t5, 48(a1)
    ld      t6, 56(a1)
    sd      a4, 0(a0)
    sd      a5, 8(a0)
    sd      a6, 16(a0)
    sd      a7, 24(a0)
    sd      t3, 32(a0)
    sd      t4, 40(a0)
    sd      t5, 48(a0)
    sd      t6, 56(a0)
.Lblock_end:
    addi    a1, a1, 64
    addi    a0, a0, 64
    bltu    a0, t1, .Lblock
.Lwords:
    addi    t1, a3, -8                  # last place for a word
    bltu    t1, a0, .Lbytes
.Lword:
    ld      a4, 0(a1)
    sd      a4, 0(a0)
.Lword_end:
    addi    a1, a1, 8
    addi    a0, a0, 8
    bgeu    t1, a0, .Lword
.Lbytes:
    bgeu    a0, a3, .Ldone
.Lbyte:
    lbu     a4, 0(a1)
    sb      a4, 0(a0)
.Lbyte_end:
    addi    a1, a1, 1
    addi    a0, a0, 1
    bltu    a0, a3, .Lbyte
.Ldone:
    li      a0, 0
    ret
.Lrest:
    sub     a0, a3, a0
    ret

.Lunaligned:
    sltiu   t1, a2, 24
    bnez    t1, .Lbytes
.Lalign:                                # bytes until the destination is aligned
    andi    t0, a0, 7
    beqz    t0, .Lto_aligned
.Lalign_byte:
    lbu     a4, 0(a1)
    sb      a4, 0(a0)
.Lalign_end:
    addi    a1, a1, 1
    addi    a0, a0, 1
    j       .Lalign
.Lto_aligned:
    andi    t0, a1, 7
    beqz    t0, .Laligned
    slli    t3, t0, 3                   # shift of the earlier word
    neg     t4, t3                      # of the later one, modulo 64
    sub     a6, a1, t0                  # aligned source
    addi    t1, a3, -8
.Lshift_first:
    ld      t5, 0(a6)
.Lshift:
    ld      t6, 8(a6)
    srl     a4, t5, t3
    sll     a5, t6, t4
    or      a4, a4, a5
    sd      a4, 0(a0)
.Lshift_end:
    mv      t5, t6
    addi    a6, a6, 8
    addi    a1, a1, 8
    addi    a0, a0, 8
    bgeu    t1, a0, .Lshift
    j       .Lbytes

    FIXUP   .Lblock, .Lblock_end, .Lbytes
    FIXUP   .Lword, .Lword_end, .Lbytes
    FIXUP   .Lbyte, .Lbyte_end, .Lrest
    FIXUP   .Lalign_byte, .Lalign_end, .Lrest
    FIXUP   .Lshift_first, .Lshift_end, .Lbytes

# a0 = to, a1 = bytes; returns the bytes not cleared.
    .globl  zero_user
    .balign 16
zero_user:
    add     a3, a0, a1
.Lzalign:
    andi    t0, a0, 7
    beqz    t0, .Lzaligned
    bgeu    a0, a3, .Ldone
.Lzalign_byte:
    sb      x0, 0(a0)
.Lzalign_end:
    addi    a0, a0, 1
    j       .Lzalign
.Lzaligned:
    sub     t1, a3, a0
    andi    t1, t1, -64
    beqz    t1, .Lzwords
    add     t1, t1, a0
.Lzblock:
    sd      x0, 0(a0)
    sd      x0, 8(a0)
    sd      x0, 16(a0)
    sd      x0, 24(a0)
    sd      x0, 32(a0)
    sd      x0, 40(a0)
    sd      x0, 48(a0)
    sd      x0, 56(a0)
.Lzblock_end:
    addi    a0, a0, 64
    bltu    a0, t1, .Lzblock
.Lzwords:
    addi    t1, a3, -8
    bltu    t1, a0, .Lzbytes
.Lzword:
    sd      x0, 0(a0)
.Lzword_end:
    addi    a0, a0, 8
    bgeu    t1, a0, .Lzword
.Lzbytes:
    bgeu    a0, a3, .Ldone
.Lzbyte:
    sb      x0, 0(a0)
.Lzbyte_end:
    addi    a0, a0, 1
    j       .Lzbytes

    FIXUP   .Lzalign_byte, .Lzalign_end, .Lrest
    FIXUP   .Lzblock, .Lzblock_end, .Lzbytes
    FIXUP   .Lzword, .Lzword_end, .Lzbytes
    FIXUP   .Lzbyte, .Lzbyte_end, .Lrest

# Single accesses: a0 = address; return a0 = value, a1 = 0, or 1 after a fault.
    .macro  LOAD name, instruction, flags=0
    .globl  \name
    .balign 4
\name:
    \instruction a0, 0(a0)
\name\()_end:
    li      a1, 0
    ret
    FIXUP   \name, \name\()_end, .Lfailed, \flags
    .endm

    .macro  STORE name, instruction
    .globl  \name
    .balign 4
\name:
    \instruction a1, 0(a0)
\name\()_end:
    li      a1, 0
    ret
    FIXUP   \name, \name\()_end, .Lfailed
    .endm

    LOAD    load_user_u8, lbu
    LOAD    load_user_u32, lwu
    LOAD    load_user_u64, ld
    LOAD    probe_kernel, ld, 1
    STORE   store_user_u32, sw
    STORE   store_user_u64, sd

# a0 = address, a1 = old, a2 = new; returns a0 = what was there, a1 = 0, or 1 after a fault.
    .globl  cmpxchg_user_u32
    .balign 4
cmpxchg_user_u32:
    sext.w  a1, a1
.Lcx:
    lr.w.aqrl t0, (a0)
    bne     t0, a1, .Lcx_end
    sc.w.rl t1, a2, (a0)
    bnez    t1, .Lcx
.Lcx_end:
    mv      a0, t0
    li      a1, 0
    ret
    FIXUP   .Lcx, .Lcx_end, .Lfailed

.Lfailed:
    li      a1, 1
    ret
