# bash: pipes, process substitution, traps, arrays, job control.
set -o pipefail
seq 1 100 | grep 7 | tail -n 2 | tr '\n' ' '; echo
false | true; echo "pipefail $?"
diff <(printf 'a\nb\n') <(printf 'a\nc\n') | head -n 1
trap 'echo "caught USR1"' USR1
kill -USR1 $$
(trap 'echo leaving' EXIT; exit 3); echo "subshell $?"
declare -A colour=([sky]=blue [grass]=green)
for key in "${!colour[@]}"; do echo "$key ${colour[$key]}"; done | sort
set -m; sleep 100 & kill -STOP %1; sleep 0.2; jobs | grep -c Stopped; kill -KILL %1; wait %1 2>/dev/null; echo "job $?"; set +m
coproc cat; echo "through a coprocess" >&"${COPROC[1]}"; read -r line <&"${COPROC[0]}"; echo "$line"
[[ "2026-11-27" =~ ^([0-9]+)-([0-9]+) ]] && echo "${BASH_REMATCH[2]}"
exec 9<<<"here"; cat <&9; head -c 5 /dev/stdin <<<"standard input"; echo
