# Packages: stress-ng
# stress-ng: what stresses files, two at a time, each for a number of rounds, with its own checks of the results.
cd "$(mktemp -d)" || exit
stress() {
    stress-ng --verify --oomable --temp-path . --timeout 300 --"$1" 2 --"$1"-ops "$2" "${@:3}" > log 2>&1
    local status=$?
    # One that finds that it cannot run here says so, and is no failure to stress-ng.
    if [ $status = 0 ] && grep -q "passed: 2: $1" log; then
        echo "$1 ok"
    else
        echo "$1 FAIL ($status)"; cat log >&2
    fi
}
stress access 50
stress chdir 100 --chdir-dirs 128
stress chmod 500
stress chown 500
stress copy-file 20 --copy-file-bytes 128M
stress dentry 1000 --dentries 256
stress dir 1000 --dir-dirs 256
stress dirdeep 1000 --dirdeep-inodes 2000
stress dirmany 100
stress dup 500
stress fallocate 20 --fallocate-bytes 8M
stress fcntl 500
stress fiemap 500 --fiemap-bytes 4M
stress filename 100
stress flock 500
stress fpunch 20 --fpunch-bytes 4M
stress fsize 20
stress fstat 200
stress getdent 200
stress hdd 100 --hdd-bytes 8M
stress inotify 20
stress io 20
stress iomix 500 --iomix-bytes 8M
stress link 2
stress locka 500
stress lockf 500
stress lockofd 500
stress metamix 20 --metamix-bytes 64K
stress mknod 100
stress open 2000
stress pseek 2000 --pseek-io-size 4K
stress readahead 2000 --readahead-bytes 4M
stress rename 2000
stress seal 100
stress seek 2000 --seek-size 4M
stress sendfile 100 --sendfile-size 1M
stress splice 500
stress symlink 1
stress sync-file 20 --sync-file-bytes 4M
stress tee 200
stress touch 500
stress unlink 2
stress utime 1000
stress vm-splice 500
stress xattr 5
ls
