# Packages: vim tmux
# vim and tmux: a window with a shell is split, an editor in one half writes a file, the other half shows it.
cd "$(mktemp -d)" || exit
export LC_ALL=C.UTF-8 TMUX_TMPDIR=$PWD HOME=$PWD SHELL=/bin/bash
tmux -f /dev/null new-session -d -s one -x 60 -y 16 'PS1="$ " bash --norc --noprofile'
# Waits until the pane $1 shows the pattern $2.
shows() { until tmux capture-pane -p -t "$1" | grep -qE -- "$2"; do sleep 0.1; done; }
shows one.0 '^\$'
tmux send-keys -t one.0 'tty | cut -c 1-9; stty size' Enter; shows one.0 '^[0-9]+ 60'
tmux split-window -v -t one 'PS1="% " bash --norc --noprofile'
shows one.1 '^%'
tmux send-keys -t one.0 clear Enter 'stty size' Enter; shows one.0 '^8 60'
tmux send-keys -t one.1 'vim -u NONE -i NONE -N text' Enter; shows one.1 '^~'
tmux send-keys -t one.1 i 'first line' Enter 'second line' Escape yyp:s/second/third/ Enter :w Enter; shows one.1 'written'
tmux send-keys -t one.0 'cat text' Enter; shows one.0 '^third'
tmux capture-pane -p -t one.1 | sed 's/ *$//'
tmux send-keys -t one.1 :q Enter; shows one.1 '^% *$'
tmux capture-pane -p -t one.0 | sed 's/ *$//'
tmux list-panes -t one -F '#{pane_index} #{pane_width}x#{pane_height} #{pane_current_command}'
tmux kill-server
cat text
