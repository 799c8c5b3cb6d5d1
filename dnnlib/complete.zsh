# To be read behind compinit. What is no command of the checkout completes as a file name.
_arcbifacegan() {
    local at word module="" line
    local -a words_of plain
    for ((at = 1; at < CURRENT; at++)); do
        word=${words[at]/#\~/$HOME}
        if [[ $word == *.py && $word -ef $_arcbifacegan_root/${word:t} ]]; then
            module=${word:t:r}
            break
        elif [[ $at -gt 1 && $words[at-1] == -m && $word == metrics.detectors && . -ef $_arcbifacegan_root ]]; then
            module=$word
            break
        fi
    done
    if [[ -z $module ]]; then
        _files
        return
    fi
    for line in "${(@f)$(cd $_arcbifacegan_root && COMP_WORDS="${words[at,CURRENT]}" COMP_CWORD=$((CURRENT - at)) \
        _ARCBIFACEGAN_COMPLETE=bash_complete $_arcbifacegan_python -m $module 2>/dev/null)}"; do
        case $line in
        plain,*) plain+=("${line#*,}") ;;
        file,*) _files ;;
        dir,*) _files -/ ;;
        esac
    done
    (($#plain)) && compadd -- $plain
}
compdef _arcbifacegan $_arcbifacegan_scripts python python3
