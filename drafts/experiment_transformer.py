"""python t.py THREADS NAME '{"steps":300,"width":192,"depth":6,"heads":6,"alpha":1,"hard":1,"soft":0,...}'"""
import sys, json, time, torch, dataclasses
from pathlib import Path
from vartutor.tokenizer import load_pretrained
from vartutor.profiles import get_profile
from vartutor.train.transformer import *
from vartutor.transformer.generate import iterate
from vartutor.data.pairs import eval_pairs, upscale_bicubic
from vartutor.metrics import psnr
from vartutor.perceptual import perceptual_distance
torch.set_num_threads(int(sys.argv[1])); name=sys.argv[2]; o=json.loads(sys.argv[3])
steps=o.pop("steps",300); W=o.pop("width",192); D=o.pop("depth",6); H=o.pop("heads",W//32); alpha=o.pop("alpha",1.0); bs=o.pop("bs",8); lr=o.pop("lr",1e-3); bf16=o.pop("bf16",True); prefix=o.pop("prefix",True); prior=o.pop("prior",True)
hit=load_pretrained("hit"); q=hit.quantizer
prof=dataclasses.replace(get_profile("cpu"),batch_size=bs)
cfg=TransformerConfig(q.patch_nums,1024,16,W,D,H,rope=True)
obj=Objective(**o)
torch.manual_seed(0)
model=PhotoTransformer(cfg,q.codes,prefix=prefix,prior=prior)
if prior: model.body.prior.log_alpha.data.fill_(torch.tensor(alpha).log())
crops=RandomCrops(load_pixels("train"),64,bs,seed=0); cache=FeatureCache(hit,crops,COURSE,seed=0)
tr=Trainer(model,TransformerLoss(model,cache,obj,bf16),LoopConfig(steps=steps,lr=lr,weight_decay=0.05,save_every=10**9,ema=0.99),Path(f"/work/scratch/exp/t_{name}"),[],{}, {"cache":cache}, decay_groups(model,0.05))
p=eval_pairs(COURSE,"val",64,2); feats=photo_features(hit,p.lr)
def ev(m,tag):
    m.eval(); out=[]
    with torch.no_grad():
        c=m.condition(p.lr,feats)
        for nm,opt in {"greedy":dict(top_k=1),"T.5":dict(temperature=.5,generator=torch.Generator().manual_seed(0)),"E1":dict(expected=True),"E.5":dict(expected=True,temperature=.5)}.items():
            S=list(iterate(m.body,hit,c,**opt)); r=[]
            for s,e in zip((1,2,4),q.ends):
                im=hit.decode(S[e-1].f_hat); r.append((round(psnr(im,p.hr[s],color="rgb").mean().item(),2)))
            pd=perceptual_distance(hit.decode(S[-1].f_hat),p.hr[4]).mean().item()
            out.append(f"{nm} {r} pd4 {pd:.3f}")
    print(name,tag," | ".join(out),flush=True)
b=upscale_bicubic(p.lr); print("bicubic",[round(psnr(b[s],p.hr[s],color="rgb").mean().item(),2) for s in (1,2,4)],"pd4",perceptual_distance(b[4],p.hr[4]).mean().item(),"params",sum(x.numel() for x in model.parameters())/1e6)
ev(model,"0")
t=time.time(); tr.fit(); print(name,"s/step",(time.time()-t)/steps,"rows",{k:round(v,2) for k,v in tr.rows[-1].items()})
ev(tr.averaged,steps)
