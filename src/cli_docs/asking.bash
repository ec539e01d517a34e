
# Asks PROGRAM what the word may be; it answers within 150 ms, or not at all. Then completes as generated above.
_FUNCTION_asking() {
    local line="${COMP_LINE:0:COMP_POINT}" words word candidates head
    read -ra words <<< "$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    word="${words[${#words[@]} - 1]}"
    mapfile -t candidates < <(PROGRAM __complete -- "${words[@]:1}" 2> /dev/null)
    if [[ ${#candidates[@]} -eq 0 ]]; then
        _FUNCTION "$@"
        return
    fi
    # Readline breaks words at `=`, `@` and `:` as well, and replaces only the last part.
    head="${word%"$2"}"
    COMPREPLY=("${candidates[@]#"$head"}")
    # What is only the beginning of a name is followed by no blank.
    [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *[/@] ]] && compopt -o nospace
    return 0
}
