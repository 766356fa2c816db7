#!/usr/bin/env bash
# All that wants a GPU, in one command and a fixed time: the tests that need one; training, sampling, encoding and the
# priors beside their bars and diffusers; then the preset cifar10 for the time that is left, its steps swept.
#
#   bash benchmarks/on_gpu.sh [FOLDER] [--data ARCHIVE] [--minutes 25] [--only "STAGE …"] [--tiny]
#
# FOLDER (on-gpu) gets a table and a log per stage, and for reading or carrying away: tables.md, logs.txt, grids of
# training (grid.png) and of samples (samples.png), sweep.png and report.html. Each stage has a time limit; one that
# fails or runs over is told, the next goes on, and the script ends with 1. --data names pictures of CIFAR-10 in an
# archive with train/<class>/<picture>; without it the dataset is looked for by its name. --only runs some stages, such
# as where a machine is lent for minutes at a time: stages share FOLDER. --tiny takes the same way on a CPU, with 8x8
# digits and few steps. PYTHON is the interpreter (python).
set -u
folder=on-gpu data='' minutes=25 only='' tiny=''
while (($#)); do
    case $1 in
        --data) data=$2; shift ;;
        --minutes) minutes=$2; shift ;;
        --only) only=$2; shift ;;
        --tiny) tiny=yes ;;
        -*) echo "error: no such option: $1" >&2; exit 2 ;;
        *) folder=$1 ;;
    esac
    shift
done
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python}
export PYTHONPATH=$(dirname "$here")${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
mkdir -p "$folder" || exit 1
run=$folder/run deadline=$(awk -v s=$SECONDS -v m="$minutes" 'BEGIN { printf "%d", s + 60 * m }') failed=0
dmz=("$python" -m dmzcli)

left() { echo $((deadline - SECONDS)); }

say() { # STAGE WORDS SECONDS: one line, on the screen and in the summary
    printf '| %s | %s | %s |\n' "$1" "$2" "$3" | tee -a "$folder/summary.md"
}

stage() { # NAME SECONDS COMMAND…: runs a command within a time; its output is the stage's table, its errors the log
    local name=$1 limit=$2 code begun=$SECONDS
    shift 2
    [[ -n $only && " $only " != *" $name "* ]] && return
    ((limit > $(left))) && limit=$(left)
    if ((limit <= 0)); then
        say "$name" 'no time was left' 0
        failed=1
        return
    fi
    timeout -k 10 "$limit" "$@" >"$folder/$name.md" 2>"$folder/$name.log"
    code=$?
    case $code in
        0) say "$name" 'done' $((SECONDS - begun)); return ;;
        124 | 137) say "$name" "was ended after its $limit seconds" $((SECONDS - begun)) ;;
        *) say "$name" "FAILED ($code): $(grep -v '^ *$' "$folder/$name.log" | tail -n 1 | tr '|' '/')" $((SECONDS - begun)) ;;
    esac
    failed=1
}

[[ -n $only && -e $folder/summary.md ]] || printf '| stage | | seconds |\n|---|---|---|\n' >"$folder/summary.md"
if [[ -n $tiny ]]; then
    device=cpu data=${data:-digits} preset=digits precision=no reserve=60 sweep=(--steps 2,4 -n 20)
    few=(--set model.channels=8 --set 'model.encoder_channels=[8,16]' --set diffusion.timesteps=50 --max-steps 20)
    few+=(--set training.valid_every=10 --set training.sample_every=10 --set training.checkpoint_every=10)
    tests=("$here/../tests/model/test_unet.py" -k 'single and not gpu')
    compared=(--batch-size 4 --rounds 1) priors=(chow-liu)
    training=(--batch-size 4 --rounds 1 --steps 1 --variants plain 'checkpointed activations')
    sampling=(--batch-size 2 --rounds 1 --steps 2) encoding=(--rows 300 --rounds 1) count=8
else
    device=cuda data=${data:-cifar10} preset=cifar10 precision=bf16 reserve=300 sweep=(--steps 4,10,20,50 -n 2000 --precision auto)
    few=(--set training.ema=0.999 --set training.sample_every=1000)
    tests=("$here/../tests/model" "$here/../tests/diffusion" "$here/../tests/training" "$here/../tests/generation")
    tests+=(-m 'gpu or not slow' -k 'gpu or unet or autoencoder or samplers or feed or graphs')
    compared=(--batch-size 128 256 512 1024 --rounds 5 --compiled) priors=(chow-liu mixture autoregressive)
    training=(--batch-size 128 512 1024 --rounds 3 --steps 5)
    sampling=(--batch-size 1 8 64 256 --rounds 3 --steps 10 50) encoding=(--rounds 3) count=64
fi

stage machine 60 "$python" -c '
import sys, torch
sys.path.insert(0, sys.argv[1])
from machine import words
device = torch.device(sys.argv[2])
print(words(device), "\nPython", sys.version.split()[0])
if device.type == "cuda":
    print("CUDA", torch.version.cuda, "\ncuDNN", torch.backends.cudnn.version(), "\n", torch.cuda.mem_get_info())
' "$here" "$device"
stage tests 240 "$python" -m pytest --rootdir "$here/.." -c "$here/../pyproject.toml" --device "$device" -p no:cacheprovider \
    "${tests[@]}"
stage train-step 330 "$python" "$here/train_step.py" --preset "$preset" --precision "$precision" --device "$device" \
    "${compared[@]}"
stage training 200 "$python" "$here/training.py" --preset "$preset" --precision "$precision" --device "$device" \
    "${training[@]}"
stage sampling 150 "$python" "$here/sampling.py" --preset "$preset" --precision "$precision" --device "$device" \
    "${sampling[@]}"
stage encoding 90 "$python" "$here/encode.py" "$data" --preset "$preset" --device "$device" "${encoding[@]}"
stage priors 90 "$python" "$here/priors.py" --parts "${priors[@]}"
hours=$(awk -v s=$(($(left) - reserve)) 'BEGIN { print (s > 30 ? s : 30) / 3600 }')
stage train $(($(left) - reserve + 60)) "${dmz[@]}" train "$data" --preset "$preset" --run "$run" --device "$device" \
    --max-hours "$hours" "${few[@]}"
stage codes 60 "${dmz[@]}" encode --run "$run" --device "$device"
stage prior 60 "${dmz[@]}" fit-prior --run "$run" --kind chow-liu
stage sweep 150 "${dmz[@]}" sweep-steps --run "$run" --prior chow-liu --bits prior,encoded --samplers ddim,dpm++ \
    --features classifier --device "$device" "${sweep[@]}"
stage samples 60 "${dmz[@]}" sample chow-liu --run "$run" -n "$count" --steps 10 --device "$device" \
    --out "$folder/samples"
stage report 30 "${dmz[@]}" report --run "$run"

cp -f "$run/sweeps/steps/sweep.png" "$folder/sweep.png" 2>/dev/null
cp -f "$run/sweeps/steps/sweep.md" "$folder/sweep.md" 2>/dev/null
cp -f "$folder/samples/grid.png" "$folder/samples.png" 2>/dev/null
cp -f "$run/report.html" "$folder/report.html" 2>/dev/null
grids=("$run"/samples/training/step-*.png)
[[ -e ${grids[-1]} ]] && cp -f "${grids[-1]}" "$folder/grid.png"
{
    cat "$folder/summary.md"
    for file in "$folder"/*.md; do
        case ${file##*/} in summary.md | tables.md) continue ;; esac
        printf '\n## %s\n\n' "$(basename "$file" .md)"
        cat "$file"
    done
} >"$folder/tables.md"
for file in "$folder"/*.log; do
    printf '==> %s\n' "$(basename "$file")"
    tail -n 200 "$file"
done >"$folder/logs.txt"
((failed)) && echo "some stages have failed: $folder/logs.txt" >&2
exit $failed
