# For bash 4.4 and later. What is no command of the checkout completes as it would without this: file names.
_arcbifacegan() {
    local at word module="" current words=() kind value
    for ((at = 0; at < COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]/#\~/$HOME}
        if [[ $word == *.py && $word -ef $_arcbifacegan_root/${word##*/} ]]; then
            module=${word##*/} module=${module%.py}
            break
        elif [[ $at -gt 0 && ${COMP_WORDS[at - 1]} == -m && $word == metrics.detectors && . -ef $_arcbifacegan_root ]]; then
            module=$word
            break
        fi
    done
    COMPREPLY=()
    [[ -n $module ]] || return 0
    compopt +o default +o bashdefault
    for word in "${COMP_WORDS[@]:at:COMP_CWORD-at+1}"; do # --data=x came as three words
        [[ $word == = ]] || words+=("$word")
    done
    current=${COMP_WORDS[COMP_CWORD]}
    if [[ $current == = ]]; then
        current=""
        words+=("")
    fi
    while IFS=, read -r kind value; do
        case $kind in
        plain) COMPREPLY+=("$value") ;;
        file | dir)
            compopt -o filenames
            while IFS= read -r value; do COMPREPLY+=("$value"); done < <(compgen -A "${kind/dir/directory}" -- "$current")
            ;;
        esac
    done < <(cd "$_arcbifacegan_root" && COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) \
        _ARCBIFACEGAN_COMPLETE=bash_complete "$_arcbifacegan_python" -m "$module" 2>/dev/null)
}
complete -o nosort -o bashdefault -o default -F _arcbifacegan "${_arcbifacegan_scripts[@]}" python python3
