#!/bin/sh
# The same variants without dagmar: whole files, one command after the other.
#
#   serial.sh DIRECTORY     leaves DIRECTORY/variants.vcf
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 DIRECTORY" >&2
    exit 2
fi
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
mkdir -p "$1"
cd "$1"

cp "$here/data/lambda_virus.fa" lambda.fa
samtools faidx lambda.fa
bowtie2-build --quiet --seed 1 lambda.fa lambda
bowtie2 --threads 1 --seed 1 -x lambda -1 "$here/data/reads_1.fq" -2 "$here/data/reads_2.fq" -S all.sam
samtools sort -m 64M -o all.bam all.sam
bcftools mpileup -d 2000 -f lambda.fa -Ob -o pileup.bcf all.bam
bcftools call --ploidy 1 -mv -Ov -o variants.vcf pileup.bcf
