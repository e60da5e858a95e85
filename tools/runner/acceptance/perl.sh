# perl: regular expressions, sorting, files, a child, a signal.
perl -e '
use strict; use warnings;
my %seen; $seen{$_}++ for map { lc } "The cat and the dog and the bird" =~ /\w+/g;
print join(" ", map { "$_=$seen{$_}" } sort { $seen{$b} <=> $seen{$a} || $a cmp $b } keys %seen), "\n";
open my $file, ">", "/tmp/perl.$$" or die; print $file "line $_\n" for 1 .. 1000; close $file;
open $file, "<", "/tmp/perl.$$" or die; my $sum = 0; while (<$file>) { $sum += $1 if /(\d+)/ } print "$sum\n";
unlink "/tmp/perl.$$"; my $pid = fork; exit 7 unless $pid; waitpid $pid, 0; print $? >> 8, "\n";
$SIG{ALRM} = sub { print "alarm\n" }; alarm 1; select undef, undef, undef, 10; print "done\n";'
