#!/bin/sh
# Trains, encodes and samples on several machines with torchrun alone. Start it on every machine, in a folder that they
# share (the run directory lies in it), with the same HEAD:
#
#     HEAD=first.machine NODES=2 NODE=0 GPUS=8 sh examples/many_machines.sh cifar10
#
# HEAD is a name of the first machine that the others can reach; NODES how many machines there are; NODE this machine's
# number, 0 for the first; GPUS how many processes each starts, one for a GPU. On machines without a GPU, add
# --device cpu to the commands below.
set -eu

dataset=${1:-cifar10}
HEAD=${HEAD:-localhost}
NODES=${NODES:-1}
NODE=${NODE:-0}
GPUS=${GPUS:-1}
RUN=${RUN:-runs/$dataset}

# `-m -- dmzcli`: what follows `--` is dmz's; torchrun would take --run for an option of its own.
launch() {
    ${TORCHRUN:-torchrun} --nnodes="$NODES" --nproc-per-node="$GPUS" --rdzv-backend=c10d \
        --rdzv-endpoint="$HEAD:29500" --rdzv-id="$1" -m -- dmzcli "$@"
}

# The batch (training.batch_size) is that of all processes together: more processes make the same steps faster.
launch train "$dataset" --run "$RUN"

# Each process encodes its parts of the images; there is one table in the end.
launch encode --run "$RUN"

# A prior is fitted by one process, of the first machine; the others wait for it.
if [ "$NODE" -eq 0 ]; then
    ${PYTHON:-python} -m dmzcli fit-prior --run "$RUN" --kind bernoulli
fi
until [ -e "$RUN/priors/bernoulli/prior.json" ]; do sleep 1; done

# Image i is the same whichever process makes it.
launch sample bernoulli --run "$RUN" --count 50000
