# Asks PROGRAM what the word may be; it answers within 150 ms, or not at all. Then completes as generated above.
_FUNCTION() {
    local -a candidates
    candidates=("${(@f)$(PROGRAM __complete -- "${(@)words[2,CURRENT]}" 2> /dev/null)}")
    if [[ -n "${candidates[*]}" ]]; then
        compadd -- "${(@)candidates:#*[/@]}"
        # What is only the beginning of a name is followed by no blank.
        compadd -S '' -- "${(@M)candidates:#*[/@]}"
    else
        _FUNCTION_generated "$@"
    fi
}
