# What is no command of the checkout completes as it would without this.
function __arcbifacegan_at # the number of the word that is a command of the checkout
    set -l words (commandline -opc)
    for at in (seq (count $words))
        set -l word (string replace -r '^~' $HOME -- $words[$at])
        set -l name (string replace -r '.*/' '' -- $word)
        if string match -q '*.py' -- $name; and test "$(realpath -- $word 2>/dev/null)" = $__arcbifacegan_root/$name
            echo $at
            return 0
        end
        if test $name = metrics.detectors; and test $at -gt 1; and test "$words[$(math $at - 1)]" = -m
            and test "$(realpath .)" = $__arcbifacegan_root
            echo $at
            return 0
        end
    end
    return 1
end

function __arcbifacegan
    set -l at (__arcbifacegan_at); or return
    set -l words (commandline -opc)
    set words $words[$at..-1]
    set -l current (commandline -ct)
    set -l module (string replace -r '.*/' '' -- $words[1] | string replace -r '\.py$' '')
    for line in (cd $__arcbifacegan_root && COMP_WORDS="$(string join ' ' -- (string escape -- $words $current))" \
        COMP_CWORD=(count $words) _ARCBIFACEGAN_COMPLETE=bash_complete $__arcbifacegan_python -m $module 2>/dev/null)
        switch $line
            case 'plain,*'
                string replace 'plain,' '' -- $line
            case 'file,*'
                __fish_complete_path $current
            case 'dir,*'
                __fish_complete_directories $current ''
        end
    end
end

for name in $__arcbifacegan_scripts python python3
    complete -c $name -n __arcbifacegan_at -f -a '(__arcbifacegan)'
end
