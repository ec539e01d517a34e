
# Asks PROGRAM what the word may be; it answers within 150 ms, or not at all.
complete -c PROGRAM -a '(PROGRAM __complete -- (commandline -opc)[2..-1] (commandline -ct) 2> /dev/null)'
