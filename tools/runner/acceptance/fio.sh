# Packages: fio
# fio in verify mode: what each engine writes is what is read back, sequential and at random, through the cache and direct.
cd "$(mktemp -d)" || exit
job() {
    if fio --name="$1" --minimal --size=8M --bs=4k --rw=randwrite --verify=crc32c --do_verify=1 --verify_fatal=1 --end_fsync=1 \
        --randseed=1 --filename=data "${@:2}" > log 2>&1; then
        echo "$1 ok"
    else
        echo "$1 FAIL"; cat log >&2
    fi
    rm -f data data.*
}
job sync --ioengine=sync --fsync=256
job psync --ioengine=psync --rw=randrw
job pvsync2 --ioengine=pvsync2 --rw=write --bs=64k
job vsync --ioengine=vsync --iodepth=8
job mmap --ioengine=mmap
job posixaio --ioengine=posixaio --iodepth=8
job direct --ioengine=psync --direct=1 --bs=16k
job splice --ioengine=splice --rw=write
job two --numjobs=2 --offset_increment=8M --ioengine=psync --group_reporting
job trim --ioengine=psync --rw=write --fallocate=posix --fdatasync=128
